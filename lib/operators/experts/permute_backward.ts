import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkTensor } from "../check.js";
import { combine } from "./combine.js";

/**
 * The gradient of {@link permute} by x: dx[t] = Σⱼ dRows[rowOfSlot[t, j]], in float32 and in order of j. A slot of -1
 * adds nothing. This is {@link combine} with weights of 1.
 *
 * @param dRows [R, H] f32, f16 or bf16.
 * @param rowOfSlot [T, k] i32, each -1 or 0 .. R-1: where `sort` put the slots; any other value is ID_OUT_OF_RANGE at
 * the next wait.
 * @param options.out where to write, [T, H] of any float dtype; default a new tensor of dRows' dtype.
 * @returns dx [T, H], in the dtype of `out` if given, else of dRows.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (overlapping `out`).
 */
export function permuteBackward<O extends FloatDType>(
  dRows: Tensor<FloatDType>,
  rowOfSlot: Tensor<"i32">,
  options: { out: Tensor<O> },
): Tensor<O>;
export function permuteBackward<D extends FloatDType, O extends FloatDType = D>(
  dRows: Tensor<D>,
  rowOfSlot: Tensor<"i32">,
  options?: { out?: Tensor<O> | undefined },
): Tensor<D | O>;
export function permuteBackward(
  dRows: Tensor<FloatDType>,
  rowOfSlot: Tensor<"i32">,
  options: { out?: Tensor<FloatDType> | undefined } = {},
): Tensor<FloatDType> {
  checkTensor("dRows", dRows, "float", ["R", "H"]);
  checkTensor("rowOfSlot", rowOfSlot, ["i32"], ["T", "k"], dRows.device);
  const ones = new Float32Array(rowOfSlot.size).fill(1);
  using weights = dRows.device.tensor(ones, rowOfSlot.shape);
  return combine(dRows, rowOfSlot, weights, options);
}
