import type { FloatDType } from "../../core/dtype.js";
import type { WeightFormatName } from "../../core/weight_format.js";
import type { GivenFormats } from "../description/storage.js";
import type { ExpertRole, ExpertWeights } from "./expert_weights.js";
import type { Weight } from "./weight_layout.js";

/**
 * The weights of a layer. Each is a tensor of the shape given here or, if it is stored in another way (inputs first,
 * gate and up in one tensor), `{ tensor, orient, part, stacked }`; see {@link WeightLayout}.
 */
export interface LayerWeights<W = Weight, Expert = ExpertWeights<W, W>, Experts = Expert> {
  /** [E, H] */
  router: W;
  /** [E] */
  routerBias?: W;
  /** [E, H], for `noisy`: the projection that gives the deviation of the logits' noise. */
  noiseRouter?: W;
  /** [G, H], for `hierarchy`: the router of the groups. */
  groupRouter?: W;
  /** [G] */
  groupRouterBias?: W;
  /** [G, H], for `noisy` in a hierarchy: the groups' noiseRouter. */
  groupNoiseRouter?: W;
  /**
   * [E], added to the keys by which experts are chosen, never to the weights (e_score_correction_bias of DeepSeek-V3).
   */
  selectionBias?: W;
  /** Every expert's weights. */
  experts: Experts;
  /** The shared expert's weights, of width `sharedExpert.intermediateSize`. */
  shared?: Expert;
  /** Its gate: [1, H] for a sigmoid, [2, H] for a softmax. */
  sharedGate?: W;
  /** [1] or [2] */
  sharedGateBias?: W;
}

/** The formats of a layer's weights, given its first expert. */
export function givenFormats<W>(
  layer: { readonly [Role in "routerBias" | "sharedGate" | "sharedGateBias"]?: W | undefined } & { readonly router: W },
  expert: { readonly [Role in ExpertRole]?: W | undefined },
  formatOf: (weight: W) => WeightFormatName | undefined,
): GivenFormats {
  const format = (weight: W | undefined) => (weight === undefined ? undefined : formatOf(weight));
  const { gate, up, factor, down, ...expertBiases } = expert;
  const biases = [layer.routerBias, layer.sharedGateBias, ...Object.values(expertBiases)];
  return {
    router: formatOf(layer.router) as FloatDType,
    sharedGate: format(layer.sharedGate) as FloatDType | undefined,
    gate: format(gate),
    up: format(up),
    factor: format(factor),
    down: format(down),
    biases: format(biases.find((bias) => bias !== undefined)) as FloatDType | undefined,
  };
}
