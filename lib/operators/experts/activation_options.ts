import { type Activation, activations, type ClampOptions, defaultClamp } from "../../core/activation.js";
import { choice, type Fields, finite, object, optional, positive } from "../../core/options.js";

/** What is applied to the outputs of a product. */
export interface ActivationOptions {
  /** Default none. */
  activation?: Activation | undefined;
  /**
   * Parameters of `swiglu_clamped`: g σ(alpha g) (u + offset) with g = min(gate, limit), u = clamp(up, ±limit).
   * Defaults are those of gpt-oss.
   */
  clamp?: ClampOptions | undefined;
}

const clampFields = {
  alpha: optional(finite, defaultClamp.alpha),
  limit: optional(positive, defaultClamp.limit),
  offset: optional(finite, defaultClamp.offset),
} satisfies Fields<ClampOptions>;

const clampRecord = object(clampFields, "{ limit: 7 }");

export const clampOption = optional(clampRecord, defaultClamp);

export const activationFields = {
  activation: optional(choice(activations)),
  clamp: optional(clampRecord),
} satisfies Fields<ActivationOptions>;
