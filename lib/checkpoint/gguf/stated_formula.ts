import type { Activation, ClampedActivation } from "../../core/layer/activation.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import { type ExpertActivations, limitedSwiglu } from "../families/limits.js";
import {
  type Architecture,
  checkFormula,
  expertWidth,
  gatingNames,
  type LayerFacts,
  weightsScale,
} from "./architecture.js";
import type { GgufFields } from "./fields.js";

/** What an architecture takes where its files say nothing. */
interface Defaults {
  /** Absent for architectures whose files must say. */
  readonly gating?: "softmax" | "sigmoid";
  /** Given for architectures that always renormalise the weights of the chosen, or never, whatever files say. */
  readonly normalized?: boolean;
  /** Whether files can say nothing else: of the formula, they state only sizes. */
  readonly decided?: true;
  /** Default swiglu. */
  readonly activation?: Activation;
  /**
   * Whether experts are always chosen with a bias; default: if there is one. The authors' code decides where llama.cpp can do
   * without: MiMoV2MoEGate knows no other choice, AXK2TopkRouter always adds it.
   */
  readonly biased?: true;
  /** How swiglu_clamp_exp and swiglu_clamp_shexp limit a layer's experts; absent if they do not. */
  readonly limits?: Limits;
}

interface Limits {
  readonly activation: ClampedActivation;
  /** The limit where files do not say, or that they must say; default none. */
  readonly unsaid?: number | "required";
  /** Whether the shared expert then has the others' limit; default none. */
  readonly sharedAlike?: true;
}

/** GLM-5.3-Flash, of which there are files of two programs. */
const glm5Next: Defaults = {
  gating: "sigmoid",
  biased: true,
  limits: { activation: "swiglu_clamped", unsaid: "required", sharedAlike: true },
};

/**
 * GigaChat 3.5. The limit is that of its authors, of the product before SiLU; llama.cpp may limit the result of SiLU, which is almost the
 * same for such a large one.
 */
const gigachat35: Defaults = { gating: "sigmoid", biased: true, limits: { activation: "swiglu_clamped" } };

/**
 * Architectures of which the metadata state every part of the formula: the scores, the groups, whether weights are
 * renormalised, their factor, and the width of a shared expert. Their families here have the same names.
 */
const architectures: Readonly<Record<string, Defaults>> = {
  mistral4: { gating: "softmax" },
  afmoe: { gating: "sigmoid", biased: true },
  "exaone-moe": { gating: "sigmoid", biased: true },
  hy_v3: { gating: "sigmoid" },
  hy_v4: { gating: "sigmoid", biased: true, limits: { activation: "swiglu_clamped" } },
  "kimi-linear": { gating: "sigmoid", biased: true, normalized: true },
  laguna: { gating: "sigmoid", biased: true },
  mimo2: { gating: "sigmoid", biased: true, normalized: true, decided: true },
  step35: { gating: "sigmoid", limits: { activation: "swiglu_clamped_after" } },
  "llada-moe": { gating: "softmax", normalized: false, decided: true },
  rnd1: { gating: "softmax", normalized: true, decided: true },
  mellum: { gating: "softmax", normalized: true, decided: true },
  bailingmoe3: { gating: "sigmoid", biased: true, limits: { activation: "swiglu_clamped_after" } },
  axk2: { gating: "sigmoid", biased: true },
  dots3note: { gating: "sigmoid", biased: true },
  "solar-open2": { gating: "sigmoid", biased: true },
  glm5next: glm5Next,
  "glm5-next": glm5Next,
  gigachat35,
  "k2-horizon": {},
  maple: { gating: "softmax", normalized: true, decided: true, limits: { activation: "swiglu_clamped", unsaid: 7 } },
  "kimi-k3": { gating: "sigmoid", biased: true, activation: "situ" },
  "minimax-m3": { gating: "sigmoid", biased: true, activation: "swiglu_clamped" },
  grok: { gating: "softmax", normalized: true, decided: true, activation: "geglu_tanh" },
  "nomic-bert-moe": { gating: "softmax", normalized: false, decided: true, activation: "gelu_tanh" },
};

export const statedArchitectures: readonly (readonly [string, Architecture])[] = Object.entries(architectures).map(
  ([modelType, defaults]) => [
    modelType,
    {
      read(fields, layer, facts) {
        const config = readConfig(fields, layer, defaults, facts);
        const { biased: alwaysBiased = false } = defaults;
        return { family: { modelType, config: () => config }, fields: {}, alwaysBiased };
      },
    },
  ],
);

function readConfig(
  fields: GgufFields,
  layer: number,
  defaults: Defaults,
  { hasLatentNorm }: LayerFacts,
): MoeLayerConfig {
  const { gating, normalized, decided, activation = "swiglu", limits } = defaults;
  if (decided && gating) checkFormula(fields, gating, normalized === true);
  const intermediateSize = expertWidth(fields, layer);
  const groups = fields.optional("expert_group_count") ?? 1;
  const shared =
    fields.optional("expert_shared_feed_forward_length") ??
    (fields.optional("expert_shared_count") ?? 0) * intermediateSize;
  const activations = limits
    ? readLimits(fields, layer, limits, shared > 0)
    : { experts: { activation, ...(activation === "situ" && readSitu(fields)) }, shared: {} };
  const latent = fields.optional("expert_latent_length");
  return {
    hiddenSize: fields.integer("embedding_length"),
    intermediateSize,
    numExperts: fields.integer("expert_count"),
    topK: fields.integer("expert_used_count"),
    scoring: readScoring(fields, gating),
    ...(groups > 1 && {
      groups: { count: groups, top: fields.integer("expert_group_used_count"), score: "top2_sum" },
    }),
    normalize: normalized ?? fields.boolean("expert_weights_norm") ?? false,
    scale: weightsScale(fields),
    ...activations.experts,
    ...(shared > 0 && { sharedExpert: { intermediateSize: shared, ...activations.shared } }),
    ...(latent !== undefined && {
      latent: {
        size: latent,
        ...(hasLatentNorm && { norm: { epsilon: numberOf(fields, "attention.layer_norm_rms_epsilon") } }),
      },
    }),
  };
}

function readScoring(fields: GgufFields, unsaid: Defaults["gating"]): "softmax" | "sigmoid" {
  const given = fields.optional("expert_gating_func");
  const name = given === undefined ? unsaid : gatingNames[given];
  if (name === "softmax" || name === "sigmoid") return name;
  throw fields.error("expert_gating_func", "1 (softmax) or 2 (sigmoid)", given);
}

function readLimits(
  fields: GgufFields,
  layer: number,
  { activation, unsaid = 0, sharedAlike }: Limits,
  hasShared: boolean,
): ExpertActivations {
  const read = (name: string, fallback: number | "required") => {
    const limit = fields.elementOf(name, layer) ?? fallback;
    if (typeof limit === "number" && limit >= 0) return limit;
    throw fields.error(`${name}[${layer}]`, "a limit > 0, or 0 for none", limit === "required" ? undefined : limit);
  };
  const routed = read(limitKeys[0], unsaid);
  const shared = hasShared ? read(limitKeys[1], sharedAlike ? routed : 0) : routed;
  return limitedSwiglu(activation, { routed: routed || undefined, shared: shared || undefined });
}

/** Both limits of Kimi K3's activation, of which the second may be 0, which is none. */
function readSitu(fields: GgufFields): Pick<MoeLayerConfig, "clamp"> {
  const [limit, upLimit] = [numberOf(fields, "activation.situ_beta"), numberOf(fields, "activation.situ_linear_beta")];
  return { clamp: { limit, ...(upLimit > 0 && { upLimit }) } };
}

function numberOf(fields: GgufFields, name: string): number {
  const value = fields.number(name);
  if (value === undefined) throw fields.error(name, "a number", value);
  return value;
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
