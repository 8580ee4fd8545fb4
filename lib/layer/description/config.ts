import type { ExpertFormats, LayerDescription, LayerFormats } from "../../core/device/backend.js";
import { cannotCombine, invalidArgument } from "../../core/errors.js";
import { isPlain, weightFormat } from "../../core/formats/weight_formats.js";
import { boolean, choice, type Fields, integer, object, optional, type Read } from "../../core/input/options.js";
import {
  type Activation,
  activations,
  type ClampOptions,
  type OutputActivation,
  outputActivations,
} from "../../core/layer/activation.js";
import type { ExpertRange } from "../../core/layer/expert_range.js";
import {
  type ExpertScoring,
  expertScorings,
  type Gating,
  type Scoring,
  type WeightPlace,
  weightPlaces,
} from "../../core/layer/routing_rule.js";
import { type SharedGate, sharedGates } from "../../core/layer/shared_gate.js";
import type { DType, FloatDType } from "../../core/tensors/dtype.js";
import { expertCount } from "../../operators/check.js";
import { activationFields, clampOf } from "../../operators/experts/activation_options.js";
import {
  type Capacity,
  type CapacityAmount,
  type CapacityRule,
  type CapacitySize,
  capacityOption,
  capacitySize,
  checkCapacity,
  checkCapacitySize,
} from "../../operators/routing/capacity.js";
import {
  checkGating,
  type GatingRule,
  type GatingRuleOptions,
  gatingFields,
} from "../../operators/routing/gating_options.js";
import { checkHashRouting, type HashRouting, type HashRoutingConfig, hashRoutingFields } from "./hash_routing.js";
import { checkHierarchy, type Hierarchy, type HierarchyConfig, hierarchyOption } from "./hierarchy.js";
import { checkedBank } from "./identity_experts.js";
import { checkLatent, type Latent, type LatentConfig, latentOption } from "./latent.js";
import { type RouterInput, type RouterInputConfig, routerInputFields } from "./router_input.js";
import { checkRouterNoise, type RouterNoise, type RouterNoiseConfig, routerNoiseFields } from "./router_noise.js";
import { uniformStorage, type WeightStorage } from "./storage.js";

/** An expert that processes every token, in addition to the chosen ones. */
export interface SharedExpertConfig {
  /** Its width; for a model with n shared experts, the width of all n together. */
  intermediateSize: number;
  /**
   * Its weight: 1 (`none`, default), the sigmoid of a linear projection (`sigmoid`, Qwen2-MoE), or the second entry of
   * a softmax over two whose first entry multiplies the routed experts' output (`softmax`, residual MoE, arXiv
   * 2201.05596).
   */
  gate?: SharedGate | undefined;
  /**
   * Parameters of its activation, which is the layer's, if they are not those of the layer. A `limit` of Infinity is
   * none.
   */
  clamp?: ClampOptions | undefined;
}

/** The sizes and formula of an MoE layer. */
export interface MoeLayerConfig extends GatingRuleOptions, HashRoutingConfig, RouterInputConfig, RouterNoiseConfig {
  /** H, width of a token. */
  hiddenSize: number;
  /** I, width inside one expert. */
  intermediateSize: number;
  /** E, all that the router scores. */
  numExperts: number;
  /**
   * How many of them, the last ones, have no weights and return their input (LongCat-Flash's zero-computation experts).
   * Default 0.
   */
  identityExperts?: number | undefined;
  /** Default swiglu: down(silu(gate x) * up x). */
  activation?: Activation | undefined;
  /** Parameters of `swiglu_clamped`, `swiglu_clamped_after` and `situ`; see {@link Clamp} and {@link ClampOptions}. */
  clamp?: ClampOptions | undefined;
  /** Whether there is a third projection: down(act(gate x) * (up x) * (multiplier x)), as in OpenMoE. Default false. */
  multiplier?: boolean | undefined;
  /** Activation of an expert's output before it is weighted; default none. */
  outputActivation?: OutputActivation | undefined;
  /** Whether the router's weight multiplies the expert's output (default) or its input (Llama-4). */
  weightOn?: WeightPlace | undefined;
  /** Default none. */
  sharedExpert?: SharedExpertConfig | undefined;
  /**
   * Routed experts on a projection of the tokens: with z = latentDown x, the output is latentUp (Σⱼ wⱼ · expertᵢⱼ(z)) and
   * the shared expert's of x (Nemotron 3 Super). Default: experts read the tokens as they are.
   */
  latent?: LatentConfig | undefined;
  /**
   * Hierarchical gating (see {@link hierarchicalGating}): a first gate applies this rule to the logits of `groupRouter`
   * to choose groups of neighbouring experts; the layer's own rule then chooses topK / hierarchy.topK experts in each.
   * Default none.
   */
  hierarchy?: HierarchyConfig | undefined;
  /** How many choices an expert takes; the others are dropped. Default: no limit. */
  capacity?: Capacity | undefined;
  /**
   * Experts choose tokens, instead of tokens choosing experts (see {@link expertChoice}): each expert takes this many,
   * those with the largest softmax or sigmoid. A token may have any number of experts, so topK must be numExperts.
   * Default none.
   */
  expertChoice?: CapacitySize | undefined;
  /**
   * Whether the weights of the chosen experts, after all that is above, are multiplied by a number for each expert, its
   * `expertScale` (Gemma 4). Default false.
   */
  perExpertScale?: boolean | undefined;
}

/** A checked configuration: what devices compute, and how the routing is made before that. */
export interface MoeLayerDescription extends LayerDescription, RouterInput, RouterNoise {
  /**
   * Storage dtype of the experts' weights: that of `up` if they differ, or of the router if `up` is quantised. Tokens
   * usually have it too.
   */
  readonly weightDType: DType;
  /** How many choices an expert takes; undefined without a limit. */
  readonly capacity: CapacityRule | undefined;
  /** How many tokens an expert takes; undefined if tokens choose experts. */
  readonly expertChoice: CapacityAmount | undefined;
  /** The rules of both gates; undefined if there is one gate. */
  readonly hierarchy: Hierarchy | undefined;
  /** The table that chooses experts by token ids; undefined if the router chooses. */
  readonly hashRouting: HashRouting | undefined;
  /** Whether `expertScale` multiplies the weights. */
  readonly perExpertScale: boolean;
  /** How many experts, the last ones, return their input. */
  readonly identityExperts: number;
  /** The projection that the routed experts read; undefined if they read the tokens as they are. */
  readonly latent: Latent | undefined;
}

const sharedExpertFields = {
  intermediateSize: integer(1),
  gate: optional(choice(sharedGates), "none"),
  clamp: activationFields.clamp,
} satisfies Fields<SharedExpertConfig>;

export const configFields = {
  ...gatingFields,
  ...hashRoutingFields,
  ...routerInputFields,
  ...routerNoiseFields,
  hiddenSize: integer(1),
  intermediateSize: integer(1),
  numExperts: expertCount,
  identityExperts: optional(integer(0), 0),
  activation: optional(choice(activations), "swiglu"),
  clamp: activationFields.clamp,
  multiplier: optional(boolean, false),
  outputActivation: optional(choice(outputActivations), "none"),
  weightOn: optional(choice(weightPlaces), "output"),
  sharedExpert: optional(object(sharedExpertFields, "{ intermediateSize: 1024 }")),
  latent: optional(latentOption),
  hierarchy: optional(hierarchyOption),
  capacity: optional(capacityOption),
  expertChoice: optional(capacitySize),
  perExpertScale: optional(boolean, false),
} satisfies Fields<MoeLayerConfig>;

/** Reads a configuration; combinations of fields are checked by {@link describeLayer}. */
export const layerConfig = object(configFields, "{ hiddenSize, intermediateSize, numExperts, topK }");

/** A configuration as read: every field is in range, but combinations of fields have not been checked. */
export type ReadConfig = Read<typeof layerConfig>;

/**
 * Checks a configuration and fills in the defaults. Tokens are not rounded; see {@link withTokenFormat}.
 * @param storage dtype of all weights, or the storage of each role.
 * @param experts the experts that the layer holds; default all.
 */
export function describeLayer(
  config: MoeLayerConfig,
  storage: FloatDType | WeightStorage,
  experts?: ExpertRange,
): MoeLayerDescription {
  return describeConfig(layerConfig(config, "options"), storage, experts);
}

/** {@link describeLayer} for a configuration that has been read. */
export function describeConfig(
  config: ReadConfig,
  storage: FloatDType | WeightStorage,
  experts?: ExpertRange,
): MoeLayerDescription {
  const { hiddenSize, intermediateSize, numExperts, activation, multiplier, outputActivation, weightOn } = config;
  const { formats: given, biasDType, separateGate } = typeof storage === "string" ? uniformStorage(storage) : storage;
  const bank = checkedBank(experts, config);
  checkIdentityExperts(config);
  const shared = checkSharedExpert(config, bank);
  const latent = checkLatent(config, bank);
  const { shared: sharedFormats, latentDown, latentUp, ...others } = given;
  const formats: LayerFormats = {
    ...others,
    ...(shared.sharedExperts > 0 && sharedFormats && { shared: sharedFormats }),
    ...(latent && { latentDown: latentDown ?? others.router, latentUp: latentUp ?? others.router }),
  };
  checkSize(config, bank.count + shared.sharedExperts);
  const gating = checkGating(config, numExperts);
  return {
    hiddenSize,
    intermediateSize,
    numExperts,
    ...shared,
    activation,
    ...checkClamps(config, shared.sharedExperts > 0),
    multiplier,
    outputActivation,
    weightOn,
    weightDType: (isPlain(weightFormat(formats.up)) ? formats.up : formats.router) as FloatDType,
    formats,
    separateGate: separateGate === true && [formats, formats.shared].some((group) => group && keepsInputs(group)),
    biasDType,
    tokenFormat: "none",
    bank,
    ...gating,
    capacity: config.capacity && checkCapacity(config.capacity, "capacity."),
    expertChoice: checkExpertChoice(config, gating),
    hierarchy: checkHierarchy(config, gating.topK),
    hashRouting: checkHashRouting(config),
    perExpertScale: config.perExpertScale,
    identityExperts: config.identityExperts,
    latent,
    separateRouterInput: config.separateRouterInput,
    routerNorm: config.routerNorm,
    ...checkRouterNoise(config),
  };
}

/** A bank without the shared experts has no clamp of theirs. */
function checkClamps(
  { activation, clamp: given, sharedExpert }: ReadConfig,
  hasShared: boolean,
): Pick<LayerDescription, "clamp" | "sharedClamp"> {
  const clamp = clampOf(activation, given);
  const own = sharedExpert?.clamp && clampOf(activation, sharedExpert.clamp, "sharedExpert.clamp");
  return { clamp, sharedClamp: hasShared && own ? own : clamp };
}

/** Whether a matrix that reads tokens stays quantised, and with it what it does to its inputs. */
function keepsInputs({ gate, up }: ExpertFormats): boolean {
  return !isPlain(weightFormat(gate)) || !isPlain(weightFormat(up));
}

/** Devices count experts in 32 bits and weights in 64, of which JavaScript's integers have 53. */
function checkSize({ hiddenSize, intermediateSize }: ReadConfig, experts: number): void {
  if (experts >= 2 ** 31) throw invalidArgument("sharedExpert.intermediateSize", "fewer than 2^31 experts", experts);
  const weights = experts * intermediateSize * hiddenSize * 4; // gate, up, multiplier and down
  if (Number.isSafeInteger(weights)) return;
  throw invalidArgument("intermediateSize", "a layer of fewer than 2^53 weights", intermediateSize);
}

function checkExpertChoice(config: ReadConfig, gating: Gating): CapacityAmount | undefined {
  const { expertChoice, numExperts } = config;
  if (expertChoice === undefined) return undefined;
  checkCapacitySize(expertChoice, "expertChoice.");
  const refuse = (name: keyof GatingRule, expected: string) =>
    invalidArgument(name, `${expected} with expertChoice`, config[name]);
  if (gating.topK !== numExperts) throw refuse("topK", `numExperts ${numExperts}`);
  if (!isExpertScoring(gating.scoring)) throw refuse("scoring", '"softmax" or "sigmoid"');
  if (gating.selectionKey !== "score") throw refuse("selectionKey", '"score"');
  if (gating.normalization !== "none") throw refuse("normalize", "false");
  if (gating.scale !== 1) throw refuse("scale", "1");
  if (gating.numGroups !== 1) throw cannotCombine("groups", "expertChoice");
  if (config.capacity !== undefined) throw cannotCombine("capacity", "expertChoice");
  if (config.hierarchy !== undefined) throw cannotCombine("hierarchy", "expertChoice");
  return expertChoice;
}

/** Whether this scoring can be used for expert choice. */
function isExpertScoring(scoring: Scoring): scoring is ExpertScoring {
  return (expertScorings as readonly Scoring[]).includes(scoring);
}

/** Only the bank that begins with expert 0 has the shared experts; a softmax gate weighs the experts of every bank. */
function checkSharedExpert(
  config: ReadConfig,
  { first }: ExpertRange,
): Pick<LayerDescription, "sharedExperts" | "sharedGate"> {
  const { sharedExpert, intermediateSize, weightOn, outputActivation } = config;
  if (sharedExpert === undefined) return { sharedExperts: 0, sharedGate: "none" };
  const { intermediateSize: width, gate } = sharedExpert;
  if (gate !== "none" && weightOn === "input") {
    throw cannotCombine(`sharedExpert.gate "${gate}"`, 'weightOn "input"');
  }
  if (outputActivation === "softmax") throw cannotCombine("sharedExpert", 'outputActivation "softmax"');
  if (first > 0) return { sharedExperts: 0, sharedGate: gate === "softmax" ? gate : "none" };
  return { sharedExperts: Math.ceil(width / intermediateSize), sharedGate: gate };
}

/** An identity expert's output is x: there is no softmax of it, and no gate of a shared expert that the device applies. */
function checkIdentityExperts({ identityExperts, outputActivation, sharedExpert }: ReadConfig): void {
  if (identityExperts === 0) return;
  if (outputActivation === "softmax") throw cannotCombine("identityExperts", 'outputActivation "softmax"');
  if (sharedExpert?.gate === "softmax") throw cannotCombine("identityExperts", 'sharedExpert.gate "softmax"');
}
