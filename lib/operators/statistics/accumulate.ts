import type { DType } from "../../core/dtype.js";
import { invalidArgument } from "../../core/errors.js";
import { finite, object, optional } from "../../core/options.js";
import type { Tensor } from "../../core/tensor.js";
import { checkApart, checkTensor } from "../check.js";

const accumulateOptions = object({ factor: optional(finite, 1) }, "{ factor: 2 }");

/**
 * Adds values to totals of twice their width, in place: sums over many calls without rounding errors or overflow, and
 * without a wait. Totals begin as zeros; {@link readTotals} reads them.
 *
 * @param totals [N, 2]: of i32, 64-bit integers, the low word first; of f32, the sum of two, the larger first.
 * @param values of the totals' dtype: [N] to be added, or [N, 2], totals themselves.
 * @param options.factor on the values, of f32; default 1.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED; INVALID_ARGUMENT (a factor on i32, or one that
 * is not finite, or overlapping tensors).
 */
export function accumulate<D extends "i32" | "f32">(
  totals: Tensor<D>,
  values: Tensor<NoInfer<D>>,
  options: { factor?: number } = {},
): void {
  checkTensor("totals", totals, ["i32", "f32", "f64"], ["N", 2]);
  const { device, dtype } = totals;
  const count = totals.shape[0] as number;
  const valuesAreTotals = values?.rank === 2;
  const allowed: readonly DType[] = dtype === "i32" ? ["i32"] : ["f32", "f64"];
  checkTensor("values", values, allowed, valuesAreTotals ? [count, 2] : [count], device);
  checkApart("values", values, totals);
  const { factor } = accumulateOptions(options, "options");
  if (dtype === "i32" && factor !== 1) throw invalidArgument("factor", "1 for integers", factor);
  device.backend.accumulate({ values: values.handle, totals: totals.handle, valuesAreTotals, factor });
}

/** The values of totals [N, 2], once all work enqueued before is done: exact up to 2^53. */
export async function readTotals(totals: Tensor<"i32"> | Tensor<"f32">): Promise<Float64Array> {
  checkTensor("totals", totals, ["i32", "f32", "f64"], ["N", 2]);
  const words = await totals.data();
  return Float64Array.from({ length: words.length / 2 }, (_, index) => {
    const [first, second] = [words[2 * index] as number, words[2 * index + 1] as number];
    return totals.dtype === "i32" ? second * 2 ** 32 + (first >>> 0) : first + second;
  });
}
