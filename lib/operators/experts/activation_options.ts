import { type Activation, activations, type Clamp, type ClampOptions, defaultClamp } from "../../core/activation.js";
import { requires } from "../../core/errors.js";
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

export const activationFields = {
  activation: optional(choice(activations)),
  clamp: optional(clampRecord),
} satisfies Fields<ActivationOptions>;

/** The options for an activation and the clamp that it is described with, which most activations do not use. */
export function activationOf<A extends Activation>(described: { readonly activation: A; readonly clamp: Clamp }) {
  const { activation, clamp } = described;
  return { activation, ...(activation === "swiglu_clamped" && { clamp }) };
}

/** @throws INVALID_ARGUMENT for a clamp that the activation would not use. */
export function clampOf(activation: Activation | undefined, clamp: Clamp | undefined): Clamp {
  if (clamp !== undefined && activation !== "swiglu_clamped") throw requires("clamp", "the activation swiglu_clamped");
  return clamp ?? defaultClamp;
}
