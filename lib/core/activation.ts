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
  "swiglu_clamped",
] as const;
/**
 * The activation after an expert's first matrix product. `relu2` is the square of ReLU. The last four are gated: the
 * product has I gate rows, then I up rows, and the result act(gate) * up has I columns.
 *
 * @useDeclaredType
 */
export type Activation = (typeof activations)[number];

/** Whether an activation is gated, so that its weight has 2I rows. */
export function isGated(activation: Activation): boolean {
  return activations.indexOf(activation) >= activations.indexOf("swiglu");
}

/**
 * Parameters of `swiglu_clamped`: g σ(alpha g) (u + offset) with g = min(gate, limit), u = clamp(up, -limit, limit).
 * Other activations ignore them.
 */
export interface Clamp {
  /** The factor in the sigmoid; gpt-oss's is 1.702. */
  readonly alpha: number;
  /** The largest gate, and the largest magnitude of up; gpt-oss's is 7. */
  readonly limit: number;
  /** What is added to up; gpt-oss's is 1. */
  readonly offset: number;
}

/** Those that differ from gpt-oss's. */
export type ClampOptions = { readonly [Name in keyof Clamp]?: Clamp[Name] | undefined };

/** The values of gpt-oss. */
export const defaultClamp: Clamp = { alpha: 1.702, limit: 7, offset: 1 };
