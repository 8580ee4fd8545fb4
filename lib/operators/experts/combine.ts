import { invalidArgument } from "../../core/errors.js";
import { type Fields, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkPair, checkTensor, float32Beside, output } from "../check.js";

/** Options of {@link combine}. */
export interface CombineOptions {
  /** [T, H] f32, f16 or bf16, added to the sum before it is rounded; default nothing. */
  residual?: Tensor<FloatDType> | undefined;
  /** Where to write, [T, H] of any float dtype; default a new tensor of the rows' dtype. */
  out?: Tensor<FloatDType> | undefined;
}

const combineOptions = object(
  { residual: optional(tensor<FloatDType>()), out: optional(tensor<FloatDType>()) } satisfies Fields<CombineOptions>,
  "{ out }",
);

/**
 * Sums every token's expert outputs: y[t] = Σⱼ weights[t, j] · rows[rowOfSlot[t, j]], in float32 and in order of j.
 * A slot of -1 adds nothing, so a token without experts gets exactly 0. A residual is added last, and the sum rounded once.
 *
 * @param rows [R, H] f32, f16 or bf16.
 * @param rowOfSlot [T, k] i32, each -1 or 0 .. R-1; any other value is ID_OUT_OF_RANGE at the next wait.
 * @param weights [T, k] f32.
 * @returns y [T, H], in the dtype of `out` if given, else of `rows`.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, INVALID_ARGUMENT (2^31 slots or more of a token,
 * overlapping `out`).
 */
export function combine<O extends FloatDType>(
  rows: Tensor<FloatDType>,
  rowOfSlot: Tensor<"i32">,
  weights: Tensor<"f32">,
  options: CombineOptions & { out: Tensor<O> },
): Tensor<O>;
export function combine<D extends FloatDType, O extends FloatDType = D>(
  rows: Tensor<D>,
  rowOfSlot: Tensor<"i32">,
  weights: Tensor<"f32">,
  options?: CombineOptions & { out?: Tensor<O> | undefined },
): Tensor<D | O>;
export function combine(
  rows: Tensor<FloatDType>,
  rowOfSlot: Tensor<"i32">,
  weights: Tensor<"f32">,
  options: CombineOptions = {},
): Tensor<FloatDType> {
  checkTensor("rows", rows, "float", ["R", "H"]);
  const { residual, out } = combineOptions(options, "options");
  const { device } = rows;
  checkTensor("rowOfSlot", rowOfSlot, ["i32"], ["T", "k"], device);
  const slots = rowOfSlot.shape[1] as number;
  if (slots >= 2 ** 31) throw invalidArgument("rowOfSlot", "fewer than 2^31 slots of a token", slots);
  checkTensor("weights", weights, float32Beside(rows), rowOfSlot.shape, device);
  const shape = [rowOfSlot.shape[0] as number, rows.shape[1] as number];
  const dtype = out?.dtype ?? rows.dtype;
  checkOptional("residual", residual, "float", shape, device);
  if (residual) checkPair(rows, residual, "residual");
  const y = output("out", out, device, shape, dtype, [rows, rowOfSlot, weights, residual]);
  checkTensor("out", y, "float", shape, device);
  device.backend.combine({
    rows: rows.handle,
    rowOfSlot: rowOfSlot.handle,
    weights: weights.handle,
    residual: residual?.handle,
    y: y.handle,
  });
  return y;
}
