import type { Device } from "../../lib/core/device/device.js";
import type { Shape } from "../../lib/core/tensors/shape.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { Random } from "../../lib/testing/inputs/random.js";

/** A float64 tensor on `reference`, typed as operators take and return float32. */
export function float64(device: Device, values: ArrayLike<number>, shape: Shape): Tensor<"f32"> {
  return device.tensor(Float64Array.from(values), shape, "f64") as unknown as Tensor<"f32">;
}

/** The float64 values of a tensor. */
export function valuesOf(tensor: Tensor): Float64Array {
  return Float64Array.from(tensor.dataSync() as ArrayLike<number>);
}

/** Normal float64 values. */
export function normals(random: Random, count: number, deviation = 1): Float64Array {
  return Float64Array.from(random.normals(count, deviation));
}
