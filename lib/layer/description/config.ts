import {
  type Activation,
  activations,
  type Clamp,
  isGated,
  type LayerDescription,
  type LayerFormats,
  type OutputActivation,
  outputActivations,
  type SharedGate,
  sharedGates,
  type WeightPlace,
  weightPlaces,
} from "../../core/backend.js";
import type { DType, FloatDType } from "../../core/dtype.js";
import { checkChoice, checkInteger, checkOptions, invalidArgument } from "../../core/errors.js";
import { type ExpertScoring, expertScorings, type Gating, type Scoring } from "../../core/routing_rule.js";
import { checkClamp } from "../../operators/experts/grouped_gemm.js";
import {
  type Capacity,
  type CapacityRule,
  type CapacitySize,
  checkCapacity,
  checkCapacitySize,
} from "../../operators/routing/capacity.js";
import { checkGating, type GatingRuleOptions } from "../../operators/routing/gating_options.js";
import { checkRouterNoise, type RouterNoise, type RouterNoiseConfig } from "../training.js";
import { checkHierarchy, type Hierarchy, type HierarchyConfig } from "./hierarchy.js";

/** An expert that every token goes through, beside its chosen ones. */
export interface SharedExpertConfig {
  /** Its width, in models with n shared experts that of all n together. */
  intermediateSize: number;
  /**
   * Its weight: 1 (`none`, default), the sigmoid of one more linear output (Qwen2-MoE), or for `softmax` (residual MoE,
   * arXiv 2201.05596) the second of a softmax over two, whose first multiplies the routed experts' output.
   */
  gate?: SharedGate;
}

/** The sizes and formula of an MoE layer. */
export interface MoeLayerConfig extends GatingRuleOptions, RouterNoiseConfig {
  /** H, width of a token. */
  hiddenSize: number;
  /** I, width inside one expert. */
  intermediateSize: number;
  /** E. */
  numExperts: number;
  /** Default swiglu: down(silu(gate x) * up x). */
  activation?: Activation;
  /** Of `swiglu_clamped`: alpha (default 1.702), limit (7) and offset (1). */
  clamp?: Partial<Clamp>;
  /** Whether a third projection multiplies: down(act(gate x) * (up x) * (factor x)), as in OpenMoE. Default false. */
  factor?: boolean;
  /** What is done to an expert's output before it is weighted; default none. */
  outputActivation?: OutputActivation;
  /** Whether the router's weight multiplies the expert's output (default) or its input (Llama-4). */
  weightOn?: WeightPlace;
  /** Default none. */
  sharedExpert?: SharedExpertConfig | undefined;
  /**
   * Hierarchical gating (see {@link hierarchicalGating}): a first gate, by this rule on the logits of `groupRouter`, chooses
   * groups of neighbouring experts, and the layer's own rule then chooses topK / hierarchy.topK experts within each.
   * Default none.
   */
  hierarchy?: HierarchyConfig;
  /** How many of the tokens' choices an expert takes; the others are dropped. Default all. */
  capacity?: Capacity;
  /**
   * Experts choose tokens in place of tokens experts (see {@link expertChoice}): so many each, of the largest softmax or
   * sigmoid. A token has any number of experts, so topK is numExperts. Default none.
   */
  expertChoice?: CapacitySize;
}

/** A checked configuration: what devices compute, and what is done to the routing before. */
export interface MoeLayerDescription extends LayerDescription, RouterNoise {
  /** Storage dtype of the weights. */
  readonly weightDType: DType;
  readonly capacity: CapacityRule | undefined;
  readonly expertChoice: CapacitySize | undefined;
  readonly hierarchy: Hierarchy | undefined;
}

/** Checks a configuration and fills in the defaults. */
export function describeLayer(config: MoeLayerConfig, weightDType: FloatDType): MoeLayerDescription {
  const { hiddenSize, intermediateSize, numExperts, activation = "swiglu", factor = false } = config;
  const { outputActivation = "none", weightOn = "output" } = config;
  checkInteger("hiddenSize", hiddenSize, 1);
  checkInteger("intermediateSize", intermediateSize, 1);
  checkInteger("numExperts", numExperts, 1, 2 ** 31 - 2);
  checkChoice("activation", activation, activations);
  checkChoice("outputActivation", outputActivation, outputActivations);
  checkChoice("weightOn", weightOn, weightPlaces);
  if (typeof factor !== "boolean") throw invalidArgument("factor", "a boolean", factor);
  const gating = checkGating(config, numExperts);
  return {
    hiddenSize,
    intermediateSize,
    numExperts,
    ...checkSharedExpert(config),
    activation,
    clamp: checkClamp(config.clamp),
    factor,
    outputActivation,
    weightOn,
    weightDType,
    formats: sameFormats(weightDType),
    biasDType: weightDType,
    bank: { first: 0, count: numExperts },
    ...gating,
    capacity: checkLayerCapacity(config),
    expertChoice: checkExpertChoice(config, gating),
    hierarchy: checkHierarchy(config),
    ...checkRouterNoise(config),
  };
}

function sameFormats(format: FloatDType): LayerFormats {
  return { router: format, sharedGate: format, gate: format, up: format, factor: format, down: format };
}

function checkLayerCapacity({ capacity }: MoeLayerConfig): CapacityRule | undefined {
  if (capacity === undefined) return undefined;
  checkOptions(capacity, "{ factor: 1.25 }", "capacity");
  return checkCapacity(capacity, "capacity.");
}

function checkExpertChoice(config: MoeLayerConfig, gating: Gating): CapacitySize | undefined {
  const { expertChoice, numExperts, topK } = config;
  if (expertChoice === undefined) return undefined;
  checkOptions(expertChoice, "{ factor: 2 }", "expertChoice");
  checkCapacitySize(expertChoice, "expertChoice.");
  const refuse = (name: keyof MoeLayerConfig, expected: string) =>
    invalidArgument(name, `${expected} where experts choose`, config[name]);
  if (topK !== numExperts) throw refuse("topK", `numExperts ${numExperts}`);
  if (!isExpertScoring(gating.scoring)) throw refuse("scoring", '"softmax" or "sigmoid"');
  if (gating.selectionKey !== "score") throw refuse("selectionKey", '"score"');
  if (gating.numGroups !== 1) throw refuse("groups", "none");
  if (gating.normalization !== "none") throw refuse("normalize", "false");
  if (gating.scale !== 1) throw refuse("scale", "1");
  if (config.capacity !== undefined) throw refuse("capacity", "none");
  if (config.hierarchy !== undefined) throw refuse("hierarchy", "none");
  return expertChoice;
}

/** Whether experts can choose by this scoring. */
export function isExpertScoring(scoring: Scoring): scoring is ExpertScoring {
  return (expertScorings as readonly Scoring[]).includes(scoring);
}

function checkSharedExpert(config: MoeLayerConfig): Pick<LayerDescription, "sharedExperts" | "sharedGate"> {
  const { sharedExpert, intermediateSize } = config;
  if (sharedExpert === undefined) return { sharedExperts: 0, sharedGate: "none" };
  checkOptions(sharedExpert, "{ intermediateSize: 1024 }", "sharedExpert");
  const { intermediateSize: width, gate = "none" } = sharedExpert;
  checkInteger("sharedExpert.intermediateSize", width, 1);
  checkChoice("sharedExpert.gate", gate, sharedGates);
  if (gate !== "none" && config.weightOn === "input") {
    throw invalidArgument("sharedExpert.gate", '"none" where weightOn is "input"', gate);
  }
  if (config.outputActivation === "softmax") {
    throw invalidArgument("sharedExpert", 'none where outputActivation is "softmax"', sharedExpert);
  }
  return { sharedExperts: Math.ceil(width / intermediateSize), sharedGate: gate };
}

/** Width of the first product's result before the activation: 2I where gated, else I. */
export function gateUpRows(description: LayerDescription): number {
  return (isGated(description.activation) ? 2 : 1) * description.intermediateSize;
}
