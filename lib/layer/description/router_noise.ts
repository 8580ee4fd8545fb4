import { cannotCombine } from "../../core/errors.js";
import { type Fields, object, optional } from "../../core/input/options.js";
import { jitterEpsilon } from "../../operators/noise/jitter.js";
import { noiseEpsilon } from "../../operators/noise/noisy_logits.js";

/** Noise on a layer's router in training, so that tokens explore experts. At most one of the two. */
export interface RouterNoiseConfig {
  /**
   * Noisy top-k gating (arXiv 1701.06538): adds normal noise of deviation softplus(noiseRouter x) + epsilon (default
   * 0.01) to the logits, in a hierarchy to those of both gates; see {@link noisyLogits}.
   */
  noisy?:
    | {
        /** Least deviation of the noise; default 0.01. */
        epsilon?: number | undefined;
      }
    | undefined;
  /** Multiplies the router's input (not the experts') by 1 - routerJitter .. 1 + routerJitter; see {@link jitter}. */
  routerJitter?: number | undefined;
}

/** A checked {@link RouterNoiseConfig}. */
export interface RouterNoise {
  /** Noisy top-k gating; undefined without. */
  readonly noisy:
    | {
        /** Least deviation of the noise. */
        readonly epsilon: number;
      }
    | undefined;
  /** The largest relative change of the router's input; undefined without jitter. */
  readonly routerJitter: number | undefined;
}

export const routerNoiseFields = {
  noisy: optional(object({ epsilon: noiseEpsilon }, "{ epsilon: 0.01 }")),
  routerJitter: optional(jitterEpsilon),
} satisfies Fields<RouterNoiseConfig>;

/** Checks that there is at most one kind of noise. */
export function checkRouterNoise({ noisy, routerJitter }: RouterNoise): RouterNoise {
  if (noisy !== undefined && routerJitter !== undefined) throw cannotCombine("routerJitter", "noisy");
  return { noisy, routerJitter };
}
