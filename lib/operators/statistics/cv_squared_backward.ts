import { boolean, type Fields, finite, nonNegative, object, optional } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output, resultDType } from "../check.js";

/** Options of {@link cvSquaredBackward}. */
export interface CvSquaredBackwardOptions {
  /** As cvSquared took it; default false. */
  unbiased?: boolean | undefined;
  /** As cvSquared took it; default 1e-10. */
  epsilon?: number | undefined;
  /** The gradient of the loss by cvSquared's result, such as a coefficient; default 1. */
  factor?: number | undefined;
  /** Where to write; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  {
    unbiased: optional(boolean, false),
    epsilon: optional(nonNegative, 1e-10),
    factor: optional(finite, 1),
    out: optional(tensor<"f32">()),
  } satisfies Fields<CvSquaredBackwardOptions>,
  "{ unbiased: true }",
);

/**
 * The gradient of {@link cvSquared}: with variance V over n values (or n - 1), mean μ and M = μ² + ε, factor ·
 * (2 (vᵢ - μ) / (n M) - 2 μ V / (n M²)), where the first n is that of the variance. For the importance of experts,
 * {@link expertTotalsBackward} and then {@link gatingBackward} lead to the logits; for their load,
 * {@link expertLoadBackward}.
 *
 * @param values any shape, f32; counts have no gradient.
 * @returns f32 of the values' shape; 0 for a single value with `unbiased`.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function cvSquaredBackward(values: Tensor<"f32">, options: CvSquaredBackwardOptions = {}): Tensor<"f32"> {
  checkTensor("values", values, "float32", "any");
  const { unbiased, epsilon, factor, out } = backwardOptions(options, "options");
  const { device, shape, size } = values;
  const dValues = output("out", out, device, shape, resultDType(values), [values]);
  using flat = values.reshape([size]);
  using flatGradient = dValues.reshape([size]);
  const operands = { values: flat.handle, dValues: flatGradient.handle };
  device.backend.cvSquaredBackward({ ...operands, unbiased, epsilon, scale: factor });
  return dValues;
}
