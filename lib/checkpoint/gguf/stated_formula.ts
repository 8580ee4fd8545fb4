import type { Activation, ClampedActivation } from "../../core/activation.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import { type ExpertActivations, limitedSwiglu } from "../families/limits.js";
import { type Architecture, checkFormula, expertWidth, gatingNames, weightsScale } from "./architecture.js";
import type { GgufFields } from "./fields.js";

/** What an architecture takes where its files say nothing. */
interface Defaults {
  readonly gating: "softmax" | "sigmoid";
  /** Given for architectures that always renormalise the weights of the chosen, or never, whatever files say. */
  readonly normalized?: boolean;
  /** Whether files can say nothing else: of the formula, they state only sizes. */
  readonly decided?: true;
  /** Default swiglu. */
  readonly activation?: Activation;
  /** How swiglu_clamp_exp and swiglu_clamp_shexp limit a layer's experts; absent if they do not. */
  readonly limits?: ClampedActivation;
}

/**
 * Architectures of which the metadata state every part of the formula: the scores, the groups, whether weights are
 * renormalised, their factor, and the width of a shared expert. Their families here have the same names.
 */
const architectures: Readonly<Record<string, Defaults>> = {
  mistral4: { gating: "softmax" },
  afmoe: { gating: "sigmoid" },
  "exaone-moe": { gating: "sigmoid" },
  hy_v3: { gating: "sigmoid" },
  hy_v4: { gating: "sigmoid", limits: "swiglu_clamped" },
  "kimi-linear": { gating: "sigmoid", normalized: true },
  laguna: { gating: "sigmoid" },
  mimo2: { gating: "sigmoid", normalized: true, decided: true },
  step35: { gating: "sigmoid", limits: "swiglu_clamped_after" },
  "llada-moe": { gating: "softmax", normalized: false, decided: true },
  rnd1: { gating: "softmax", normalized: true, decided: true },
  mellum: { gating: "softmax", normalized: true, decided: true },
  bailingmoe3: { gating: "sigmoid", limits: "swiglu_clamped_after" },
  "minimax-m3": { gating: "sigmoid", activation: "swiglu_clamped" },
  grok: { gating: "softmax", normalized: true, decided: true, activation: "geglu_tanh" },
  "nomic-bert-moe": { gating: "softmax", normalized: false, decided: true, activation: "gelu_tanh" },
};

export const statedArchitectures: readonly (readonly [string, Architecture])[] = Object.entries(architectures).map(
  ([modelType, defaults]) => [
    modelType,
    {
      read(fields, layer) {
        const config = readConfig(fields, layer, defaults);
        return { family: { modelType, config: () => config }, fields: {} };
      },
    },
  ],
);

function readConfig(fields: GgufFields, layer: number, defaults: Defaults): MoeLayerConfig {
  const { gating, normalized, decided, activation = "swiglu", limits } = defaults;
  if (decided) checkFormula(fields, gating, normalized === true);
  const intermediateSize = expertWidth(fields, layer);
  const groups = fields.optional("expert_group_count") ?? 1;
  const shared =
    fields.optional("expert_shared_feed_forward_length") ??
    (fields.optional("expert_shared_count") ?? 0) * intermediateSize;
  const activations = limits ? readLimits(fields, layer, limits, shared > 0) : { experts: { activation }, shared: {} };
  return {
    hiddenSize: fields.integer("embedding_length"),
    intermediateSize,
    numExperts: fields.integer("expert_count"),
    topK: fields.integer("expert_used_count"),
    scoring: scoring(fields) ?? gating,
    ...(groups > 1 && {
      groups: { count: groups, top: fields.integer("expert_group_used_count"), score: "top2_sum" },
    }),
    normalize: normalized ?? fields.boolean("expert_weights_norm") ?? false,
    scale: weightsScale(fields),
    ...activations.experts,
    ...(shared > 0 && { sharedExpert: { intermediateSize: shared, ...activations.shared } }),
  };
}

function scoring(fields: GgufFields): "softmax" | "sigmoid" | undefined {
  const given = fields.optional("expert_gating_func");
  if (given === undefined) return undefined;
  const name = gatingNames[given];
  if (name === "softmax" || name === "sigmoid") return name;
  throw fields.error("expert_gating_func", "1 (softmax) or 2 (sigmoid)", given);
}

function readLimits(
  fields: GgufFields,
  layer: number,
  activation: ClampedActivation,
  hasShared: boolean,
): ExpertActivations {
  const [routed, shared] = limitKeys.map((name) => {
    const limit = fields.elementOf(name, layer) ?? 0;
    if (typeof limit === "number" && limit >= 0) return limit === 0 ? undefined : limit;
    throw fields.error(`${name}[${layer}]`, "a limit > 0, or 0 for none", limit);
  });
  return limitedSwiglu(activation, { routed, shared: hasShared ? shared : routed });
}

/** Limits of the activations of a layer's experts, and of its shared expert. */
const limitKeys = ["swiglu_clamp_exp", "swiglu_clamp_shexp"] as const;

/** Refuses metadata that limit the activations of a layer, if its architecture did not read them. */
export function refuseUnreadLimits(fields: GgufFields, layer: number): void {
  for (const name of limitKeys) {
    if (fields.wasRead(name)) continue;
    const limit = fields.elementOf(name, layer) ?? 0;
    if (limit !== 0) throw fields.error(`${name}[${layer}]`, "0, as this architecture has no limits here", limit);
  }
}
