import { type Activation, activations, isGated, type LayerDescription } from "../backend.js";
import type { FloatDType } from "../dtype.js";
import { checkChoice, checkInteger } from "../errors.js";
import { checkGating, type GatingOptions } from "../operators/gating.js";

/** The sizes and formula of an MoE layer. */
export interface MoeLayerConfig extends Omit<GatingOptions, "out"> {
  /** H, width of a token. */
  hiddenSize: number;
  /** I, width inside one expert. */
  intermediateSize: number;
  /** E. */
  numExperts: number;
  /** Default swiglu: down(silu(gate x) * up x). */
  activation?: Activation;
}

/** Checks a configuration and fills in the defaults. */
export function describeLayer(config: MoeLayerConfig, weightDType: FloatDType): LayerDescription {
  const { hiddenSize, intermediateSize, numExperts, activation = "swiglu" } = config;
  checkInteger("hiddenSize", hiddenSize, 1);
  checkInteger("intermediateSize", intermediateSize, 1);
  checkInteger("numExperts", numExperts, 1, 2 ** 31 - 2);
  checkChoice("activation", activation, activations);
  const gating = checkGating(config, numExperts);
  return { hiddenSize, intermediateSize, numExperts, activation, weightDType, ...gating };
}

/** Width of the first product's result before the activation: 2I where gated, else I. */
export function gateUpRows(description: LayerDescription): number {
  return (isGated(description.activation) ? 2 : 1) * description.intermediateSize;
}
