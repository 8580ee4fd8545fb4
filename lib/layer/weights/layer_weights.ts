import type { FloatDType } from "../../core/dtype.js";
import type { GivenDTypes } from "../description/storage.js";
import type { ExpertWeights } from "./expert_weights.js";
import type { Weight } from "./weight_layout.js";

/**
 * The weights of a layer. Each is a tensor of the shape that stands here or, where it is stored in another way (inputs
 * first, gate and up in one tensor), `{ tensor, orient, part, stacked }`; see {@link WeightLayout}.
 */
export interface LayerWeights<W = Weight, Experts = ExpertWeights<W>> {
  /** [E, H] */
  router: W;
  /** [E] */
  routerBias?: W;
  /** [E, H], for `noisy`: what the deviation of the logits' noise is projected by. */
  noiseRouter?: W;
  /** [G, H], for `hierarchy`: the router of the groups. */
  groupRouter?: W;
  /** [G] */
  groupRouterBias?: W;
  /** [G, H], for `noisy` in a hierarchy: the groups' noiseRouter. */
  groupNoiseRouter?: W;
  /** [E], added to what experts are chosen by, never to the weights (DeepSeek-V3's e_score_correction_bias). */
  selectionBias?: W;
  /** Every expert's weights. */
  experts: Experts;
  /** The shared expert's weights, whose width is `sharedExpert.intermediateSize`. */
  shared?: ExpertWeights<W>;
  /** Its gate: [1, H] for a sigmoid, [2, H] for a softmax. */
  sharedGate?: W;
  /** [1] or [2] */
  sharedGateBias?: W;
}

/** The dtypes of a layer's weights, of whose experts `expert` is the first. */
export function givenDTypes<W>(
  layer: { readonly [Role in "routerBias" | "sharedGate" | "sharedGateBias"]?: W | undefined } & { readonly router: W },
  expert: ExpertWeights<W>,
  dtypeOf: (weight: W) => FloatDType,
): GivenDTypes {
  const dtype = (weight: W | undefined) => (weight === undefined ? undefined : dtypeOf(weight));
  const { gate, up, factor, down, ...expertBiases } = expert;
  const biases = [layer.routerBias, layer.sharedGateBias, ...Object.values(expertBiases)];
  return {
    router: dtypeOf(layer.router),
    sharedGate: dtype(layer.sharedGate),
    gate: dtype(gate),
    up: dtype(up),
    factor: dtype(factor),
    down: dtype(down),
    biases: dtype(biases.find((bias) => bias !== undefined)),
  };
}
