import { checkOwnClass } from "../core/device/own_class.js";
import { type Fields, nonNegative, object, optional, positive } from "../core/input/options.js";
import type { TensorHandle } from "../core/tensors/tensor_handle.js";
import { fraction, Optimizer, type OptimizerOptions, optimizerFields } from "./optimizer.js";
import type { Parameter } from "./parameter.js";

/** Options of {@link AdamW}. */
export interface AdamWOptions extends OptimizerOptions {
  /** Default 0.9. */
  beta1?: number | undefined;
  /** Default 0.999. */
  beta2?: number | undefined;
  /** Default 1e-8. */
  epsilon?: number | undefined;
  /** Default 0.01. */
  weightDecay?: number | undefined;
}

const adamWOptions = object(
  {
    ...optimizerFields,
    weightDecay: optional(nonNegative, 0.01),
    beta1: optional(fraction, 0.9),
    beta2: optional(fraction, 0.999),
    epsilon: optional(positive, 1e-8),
  } satisfies Fields<AdamWOptions>,
  "{ learningRate: 1e-3 }",
);

/**
 * AdamW (Loshchilov and Hutter, arXiv 1711.05101), as PyTorch has it: with gradients g, averages m = β₁m + (1 - β₁)g and
 * v = β₂v + (1 - β₂)g², step t: p = p (1 - λη) - η / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε), in float32. A parameter's
 * t counts the steps in which it had a gradient. It keeps two float32 tensors for every parameter.
 */
export class AdamW extends Optimizer {
  /** @throws INVALID_ARGUMENT, UNSUPPORTED_DTYPE, SHAPE_MISMATCH, DEVICE_MISMATCH, OUT_OF_MEMORY. */
  constructor(parameters: Iterable<Parameter>, options: AdamWOptions) {
    checkOwnClass(new.target, AdamW);
    const { beta1, beta2, epsilon, ...others } = adamWOptions(options, "options");
    super(
      parameters,
      others,
      { kind: "AdamW", names: ["mean", "square"], counted: true },
      ({ backend }, { kept, ...handles }, step) => {
        const { mean, square } = kept as Record<"mean" | "square", TensorHandle>;
        backend.adamW({ ...handles, mean, square, beta1, beta2, epsilon, step });
      },
    );
  }
}
