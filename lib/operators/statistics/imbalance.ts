import { boolean, nonNegative, object, optional } from "../../core/input/options.js";
import type { ImbalanceMeasure } from "../../core/operators/statistics.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkTensor, resultDType } from "../check.js";

const cvOptions = object(
  { unbiased: optional(boolean, false), epsilon: optional(nonNegative, 1e-10) },
  "{ unbiased: true }",
);

/**
 * The squared coefficient of variation: variance / (mean² + epsilon), 0 if all values are equal. As a loss, applied to
 * the experts' importance or load (arXiv 1701.06538, equations 6 to 11, without their coefficients).
 *
 * @param values any shape, f32 or i32; all elements are equivalent.
 * @param options.unbiased divide the sum of squares by n - 1 instead of n; default false, as in the paper and
 * tensor2tensor.
 * @param options.epsilon default 1e-10, tensor2tensor's. With 0, values whose mean is 0 have no such number: NaN or Infinity.
 * @returns [1] f32; 0 for no values, and with `unbiased` for a single one.
 * @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, DISPOSED.
 */
export function cvSquared(
  values: Tensor<"f32"> | Tensor<"i32">,
  options: { unbiased?: boolean | undefined; epsilon?: number | undefined } = {},
): Tensor<"f32"> {
  const { unbiased, epsilon } = cvOptions(options, "options");
  return imbalance(values, unbiased ? "cv_squared_unbiased" : "cv_squared", epsilon);
}

/**
 * How far the fullest expert is above the mean: max / mean - 1, 0 if all are equal (MaxVio of arXiv 2408.15664).
 *
 * @param values any shape, f32 or i32: the load of every expert.
 * @returns [1] f32; 0 if the mean is 0.
 * @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, DISPOSED.
 */
export function maximumViolation(values: Tensor<"f32"> | Tensor<"i32">): Tensor<"f32"> {
  return imbalance(values, "maximum_violation", 0);
}

function imbalance(values: Tensor, measure: ImbalanceMeasure, epsilon: number): Tensor<"f32"> {
  checkTensor("values", values, ["f32", "i32", "f64"], "any");
  const result = values.device.empty([1], resultDType(values));
  values.device.backend.imbalance({ values: values.handle, result: result.handle, measure, epsilon });
  return result;
}
