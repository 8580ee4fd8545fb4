import { boolean, type Fields, finite, object, optional } from "../../core/input/options.js";
import { type RmsNormNumbers, rmsNormFields } from "../../operators/experts/rms_norm.js";

/** The RMSNorm of what a router reads: x / √(mean(x²) + epsilon) · weight · scale, in float32. */
export interface RouterNormConfig extends Pick<RmsNormNumbers, "epsilon"> {
  /** A number that multiplies `routerNormWeight`; default 1. */
  scale?: number | undefined;
}

/** What a layer's router reads. */
export interface RouterInputConfig {
  /**
   * Whether the router reads other tokens than the experts, such as a model's residual (Gemma 4): {@link MoeLayer.forward}
   * then takes them as `routerInput`. Default false.
   */
  separateRouterInput?: boolean | undefined;
  /** A norm of what the router reads, by `routerNormWeight` if there is one; default none. */
  routerNorm?: RouterNormConfig | undefined;
}

const routerNormFields = {
  epsilon: rmsNormFields.epsilon,
  scale: optional(finite, 1),
} satisfies Fields<RouterNormConfig>;
const routerNormOption = object(routerNormFields, "{ epsilon: 1e-6 }");

export const routerInputFields = {
  separateRouterInput: optional(boolean, false),
  routerNorm: optional(routerNormOption),
} satisfies Fields<RouterInputConfig>;

/** A checked {@link RouterNormConfig}. */
export interface RouterNorm {
  /** Added to the mean of the squares. */
  readonly epsilon: number;
  /** Multiplies the weight. */
  readonly scale: number;
}

/** The part of a description that says what the router reads. */
export interface RouterInput {
  /** Whether the router reads other tokens than the experts. */
  readonly separateRouterInput: boolean;
  /** Undefined if the router reads tokens as they are. */
  readonly routerNorm: RouterNorm | undefined;
}
