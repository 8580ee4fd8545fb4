export const activations = [
  "none",
  "relu",
  "relu2",
  "gelu",
  "gelu_tanh",
  "silu",
  "swiglu",
  "geglu",
  "geglu_tanh",
  "reglu",
  "swiglu_clamped",
  "swiglu_clamped_after",
  "situ",
] as const;
/**
 * The activation after an expert's first matrix product. `relu2` is the square of ReLU. Those from `swiglu` on are gated:
 * the product has I gate rows, then I up rows, and the result act(gate) * up has I columns; `reglu` has a ReLU's gate. The
 * last three have parameters, a {@link Clamp}.
 *
 * @useDeclaredType
 */
export type Activation = (typeof activations)[number];

/** Whether an activation is gated, so that its weight has 2I rows. */
export function isGated(activation: Activation): boolean {
  return activations.indexOf(activation) >= activations.indexOf("swiglu");
}

/** P: the rows of the matrix of gate and up, or of up alone, of an expert of this size. */
export function gateUpRows(activation: Activation, intermediateSize: number): number {
  return (isGated(activation) ? 2 : 1) * intermediateSize;
}

export const outputActivations = ["none", "softmax"] as const;
/**
 * The activation of an expert's output row, bias included, before it is weighted.
 *
 * @useDeclaredType
 */
export type OutputActivation = (typeof outputActivations)[number];

const clampedActivations = ["swiglu_clamped", "swiglu_clamped_after", "situ"] as const satisfies readonly Activation[];

/** An activation that has a {@link Clamp}. */
export type ClampedActivation = (typeof clampedActivations)[number];

/** Whether an activation has a clamp. */
export function isClamped(activation: Activation | undefined): activation is ClampedActivation {
  return (clampedActivations as readonly unknown[]).includes(activation);
}

/**
 * Parameters of the activations that limit a gate g and an up value u, each in its own way:
 *
 * - `swiglu_clamped` what enters SiLU: g' σ(alpha g') (u' + offset) with g' = min(g, limit);
 * - `swiglu_clamped_after` what leaves it: min(g σ(alpha g), limit) (u' + offset);
 * - `situ` both softly: limit tanh(g / limit) σ(alpha g) (upLimit tanh(u / upLimit) + offset).
 *
 * u' = clamp(u, -upLimit, upLimit). Infinity is no limit. Other activations ignore them.
 */
export interface Clamp {
  /** The factor in the sigmoid; gpt-oss's is 1.702. */
  readonly alpha: number;
  /** The limit of the gate; gpt-oss's is 7. */
  readonly limit: number;
  /** The largest magnitude of up. */
  readonly upLimit: number;
  /** What is added to up; gpt-oss's is 1. */
  readonly offset: number;
}

/**
 * Those that differ from the defaults: for `swiglu_clamped` gpt-oss's, for `swiglu_clamped_after` alpha 1, limit 7 and
 * offset 0, both with the limit as upLimit; for `situ` alpha 1, limit 1, upLimit Infinity and offset 0. JSON, which has no
 * Infinity, may say null.
 */
export type ClampOptions = { readonly [Name in keyof Clamp]?: Clamp[Name] | undefined };

/** The values of gpt-oss. */
export const defaultClamp: Clamp = { alpha: 1.702, limit: 7, upLimit: 7, offset: 1 };

/** What each activation takes for parameters that are left out; upLimit is the limit where it is undefined. */
const defaults: Readonly<Record<ClampedActivation, Omit<Clamp, "upLimit"> & { readonly upLimit: number | undefined }>> =
  {
    swiglu_clamped: { ...defaultClamp, upLimit: undefined },
    swiglu_clamped_after: { alpha: 1, limit: 7, upLimit: undefined, offset: 0 },
    situ: { alpha: 1, limit: 1, upLimit: Number.POSITIVE_INFINITY, offset: 0 },
  };

/** All parameters of an activation; those of gpt-oss for one that ignores them. */
export function completeClamp(activation: Activation | undefined, options: ClampOptions = {}): Clamp {
  if (!isClamped(activation)) return defaultClamp;
  const own = defaults[activation];
  const limit = options.limit ?? own.limit;
  return {
    alpha: options.alpha ?? own.alpha,
    limit,
    upLimit: options.upLimit ?? own.upLimit ?? limit,
    offset: options.offset ?? own.offset,
  };
}
