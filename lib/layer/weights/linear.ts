import type { Device } from "../../core/device/device.js";
import { freeWeight, type WeightMatrix } from "../../core/formats/weight_format.js";
import type { Shape } from "../../core/tensors/shape.js";
import type { StridedMatrix } from "../../core/tensors/tensor_handle.js";
import { checkQuantized, isQuantized, quantizedMatrix } from "../../operators/experts/quantized_weight.js";
import type { ExpertMatrix } from "./expert_weights.js";
import { checkWeight, type Weight, wholeMatrix, wholeWeight } from "./weight_layout.js";

/**
 * Checks a linear projection's weight of `shape` [outputs, inputs] and its bias [outputs], and passes them to `set`. The
 * device dequantises a quantised weight.
 */
export function setLinear(
  device: Device,
  name: string,
  shape: Shape,
  weight: ExpertMatrix,
  bias: Weight | undefined,
  set: (matrix: WeightMatrix, vector: StridedMatrix | null) => void,
): void {
  const vector = shape.slice(0, 1);
  const size = shape as [number, number];
  if (isQuantized(weight)) checkQuantized(name, weight, size, device);
  else checkWeight(name, weight, shape, device);
  if (bias !== undefined) checkWeight(`${name}Bias`, bias, vector, device);
  const whole = isQuantized(weight) ? quantizedMatrix(name, weight, size) : wholeWeight(weight, shape);
  const matrices = { weight: whole, bias: bias ? wholeMatrix(bias, vector) : null };
  withMatrices(matrices, (given) => set(given.weight, given.bias));
}

/** Passes matrices to `set`, then frees their handles. */
export function withMatrices<M extends Record<string, StridedMatrix | WeightMatrix | null>>(
  matrices: M,
  set: (matrices: M) => void,
): void {
  try {
    set(matrices);
  } finally {
    for (const matrix of Object.values(matrices)) {
      if (matrix === null) continue;
      if ("codes" in matrix) freeWeight(matrix);
      else matrix.handle.free();
    }
  }
}
