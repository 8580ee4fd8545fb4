import { invalidArgument } from "../../core/errors.js";
import { finite, object, optional } from "../../core/input/options.js";
import { Tensor } from "../../core/tensors/tensor.js";
import { checkApart, checkTensor } from "../check.js";

const accumulateOptions = object({ scale: optional(finite, 1) }, "{ scale: 2 }");

/**
 * Adds values to totals of twice their width, in place, to sum over many calls without a wait, and without the rounding
 * errors or overflow of their own width. Totals start as zeros; {@link readTotals} reads them.
 *
 * @param totals [N, 2]: i32 for 64-bit integers, low word first; f32 for unevaluated sums of two floats, larger first.
 * @param values of the totals' dtype: [N] values, or [N, 2] totals.
 * @param options.scale multiplies the values (f32 only); default 1.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED; INVALID_ARGUMENT (a scale for i32, a scale
 * that is not finite, or overlapping tensors).
 */
export function accumulate<D extends "i32" | "f32">(
  totals: Tensor<D>,
  values: Tensor<NoInfer<D>>,
  options: { scale?: number | undefined } = {},
): void {
  checkTensor("totals", totals, ["i32", "f32", "f64"], ["N", 2]);
  const { device, dtype } = totals;
  const count = totals.shape[0] as number;
  const valuesAreTotals = values instanceof Tensor && values.rank === 2;
  checkTensor("values", values, dtype === "i32" ? ["i32"] : "float32", valuesAreTotals ? [count, 2] : [count], device);
  checkApart("values", values, totals);
  const { scale } = accumulateOptions(options, "options");
  if (dtype === "i32" && scale !== 1) throw invalidArgument("scale", "1 for integers", scale);
  device.backend.accumulate({ values: values.handle, totals: totals.handle, valuesAreTotals, scale });
}

/**
 * The values of totals [N, 2], once all work enqueued so far is done; integers are exact up to 2^53.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, and what {@link Tensor.data} rejects with.
 */
export async function readTotals(totals: Tensor<"i32"> | Tensor<"f32">): Promise<Float64Array> {
  checkTensor("totals", totals, ["i32", "f32", "f64"], ["N", 2]);
  const words = await totals.data();
  return Float64Array.from({ length: words.length / 2 }, (_, index) => {
    const [first, second] = [words[2 * index] as number, words[2 * index + 1] as number];
    return totals.dtype === "i32" ? second * 2 ** 32 + (first >>> 0) : first + second;
  });
}
