import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { combine } from "../../operators/experts/combine.js";
import type { Routing } from "../../operators/routing/gating.js";

// A weighted sum of one row is a product: that of two float32 numbers, rounded once.

/** Writes the weights [T, k] of slots times the scales [E] of the experts `ids` [T, k], and 0 where there is no expert. */
export function timesExpertScale({ ids, weights }: Routing, scale: Tensor<FloatDType>, out: Tensor<"f32">): void {
  using rows = scale.reshape([scale.size, 1]);
  using rowOfSlot = ids.reshape([ids.size, 1]);
  using factors = weights.reshape([ids.size, 1]);
  using products = out.reshape([ids.size, 1]);
  combine(rows, rowOfSlot, factors, { out: products });
}

/** Writes a vector times a number. */
export function timesNumber(vector: Tensor<FloatDType>, number: number, out: Tensor<"f32">): void {
  const { device, size } = vector;
  using rows = vector.reshape([1, size]);
  using first = device.zeros([1, 1], "i32");
  using factor = device.tensor([[number]], [1, 1], out.dtype);
  using products = out.reshape([1, size]);
  combine(rows, first, factor, { out: products });
}
