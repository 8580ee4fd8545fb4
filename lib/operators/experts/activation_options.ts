import { requires } from "../../core/errors.js";
import {
  choice,
  type Fields,
  finite,
  object,
  optional,
  positiveOrInfinite,
  type Reader,
} from "../../core/input/options.js";
import {
  type Activation,
  activations,
  type Clamp,
  type ClampOptions,
  completeClamp,
  isClamped,
} from "../../core/layer/activation.js";

/** What is applied to the outputs of a product. */
export interface ActivationOptions {
  /** Default none. */
  activation?: Activation | undefined;
  /** Parameters of `swiglu_clamped`, `swiglu_clamped_after` and `situ`; see {@link Clamp} and {@link ClampOptions}. */
  clamp?: ClampOptions | undefined;
}

/** Infinity is no limit; JSON writes it as null. */
const limit: Reader<number> = (value, name) =>
  value === null ? Number.POSITIVE_INFINITY : positiveOrInfinite(value, name);

const clampFields = {
  alpha: optional(finite),
  limit: optional(limit),
  upLimit: optional(limit),
  offset: optional(finite),
} satisfies Fields<ClampOptions>;

export const clampRecord = object(clampFields, "{ limit: 7 }");

export const activationFields = {
  activation: optional(choice(activations)),
  clamp: optional(clampRecord),
} satisfies Fields<ActivationOptions>;

/** The options for an activation and the clamp that it is described with, which most activations do not use. */
export function activationOf<A extends Activation>(described: { readonly activation: A; readonly clamp: Clamp }) {
  const { activation, clamp } = described;
  return { activation, ...(isClamped(activation) && { clamp }) };
}

/**
 * The clamp of an activation.
 * @param name of the option.
 * @throws INVALID_ARGUMENT for a clamp that the activation would not use.
 */
export function clampOf(
  activation: Activation | undefined,
  clamp: ClampOptions | undefined,
  name: `${string}clamp` = "clamp",
): Clamp {
  if (clamp !== undefined && !isClamped(activation)) {
    throw requires(name, "the activation swiglu_clamped, swiglu_clamped_after or situ");
  }
  return completeClamp(activation, clamp);
}
