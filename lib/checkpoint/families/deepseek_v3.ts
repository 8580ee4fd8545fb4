import type { ConfigFields } from "../config_fields.js";
import { bestGroups, isSparseDeepseekLayer, sharedCount } from "./deepseek_v2.js";
import { blockTensors, type Family, gatedActivation, layerCount, sharedExpert, sharedTensors } from "./family.js";
import { type ExpertActivations, limitedInputs } from "./limits.js";

/** The defaults by which the families of DeepSeek-V3's formula differ. */
interface Defaults {
  readonly layers: number;
  readonly firstSparse: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numExperts: number;
  readonly numGroups: number;
  readonly topGroups: number;
  readonly scale: number;
  readonly topK?: number;
  readonly normalize?: boolean;
  readonly sharedExperts?: number;
  /** Width of a shared expert, for families that state it; otherwise that of the others. */
  readonly sharedWidth?: number;
  /** What `scoring_func` may say instead of `sigmoid`. */
  readonly scoring?: string;
  /** The default of `swiglu_limit`, for families that have this field. */
  readonly limit?: number;
  /** Whether that limits the shared experts, too; default true. */
  readonly limitsShared?: boolean;
}

/**
 * DeepSeek-V3's formula: Gate and MoE of DeepSeek-V3/inference/model.py. Sigmoid; experts are chosen by score plus
 * bias, from the groups whose two best have the largest sum; the weights are the scores without the bias. Experts of
 * other groups are masked with minus infinity, as in DeepSeek's code. Transformers masks them with 0, so it may choose
 * others when every key in a token's groups is negative.
 */
function deepseekV3Family(modelType: string, { sharedExperts: shared = 1, ...defaults }: Defaults): Family {
  return {
    modelType,
    layerCount: layerCount(defaults.layers),
    hasExperts: (fields, layer) => isSparseDeepseekLayer(fields, layer, defaults.firstSparse),
    config: (fields) => {
      if (fields.value("scoring_func") !== defaults.scoring) fields.require("scoring_func", "sigmoid");
      fields.require("topk_method", "noaux_tc");
      fields.require("mlp_bias", false);
      fields.require("use_dynamic_rsf", false); // a factor for each token, in dots3-note
      fields.require("use_shared_expert_sigmoid", false); // a gate of the shared expert, in GigaChat 3.5
      const intermediateSize = fields.integer("moe_intermediate_size", defaults.intermediateSize);
      const width = sharedWidth(fields, defaults.sharedWidth) ?? intermediateSize;
      const activations: ExpertActivations =
        defaults.limit === undefined
          ? { experts: { activation: gatedActivation(fields) }, shared: {} }
          : limitedInputs(fields, defaults.limit, defaults.limitsShared);
      return {
        hiddenSize: fields.integer("hidden_size", defaults.hiddenSize),
        intermediateSize,
        numExperts: fields.integer("n_routed_experts", defaults.numExperts, { alias: "num_local_experts" }),
        topK: fields.integer("num_experts_per_tok", defaults.topK ?? 8),
        scoring: "sigmoid",
        ...bestGroups(fields, defaults.numGroups, defaults.topGroups),
        normalize: fields.boolean("norm_topk_prob", defaults.normalize ?? true),
        scale: fields.number("routed_scaling_factor", defaults.scale),
        ...activations.experts,
        ...sharedExpert(sharedCount(fields, shared), width, activations.shared),
      };
    },
    tensors: (prefix, fields) =>
      blockTensors(`${prefix}.mlp`, {
        selectionBias: { name: `${prefix}.mlp.gate.e_score_correction_bias` },
        ...sharedTensors(`${prefix}.mlp`, sharedCount(fields, shared)),
      }),
  };
}

function sharedWidth(fields: ConfigFields, fallback: number | undefined): number | undefined {
  if (fallback === undefined) return undefined;
  const alias = "moe_shared_expert_intermediate_size";
  return fields.integer("shared_experts_intermediate_size", fallback, { alias });
}

const deepseekV3Defaults: Defaults = {
  layers: 61,
  firstSparse: 3,
  hiddenSize: 7168,
  intermediateSize: 2048,
  numExperts: 256,
  numGroups: 8,
  topGroups: 4,
  scale: 2.5,
};

/** DeepSeek-V3 and R1: DeepseekV3Config of Transformers. */
export const deepseekV3 = deepseekV3Family("deepseek_v3", deepseekV3Defaults);

/** DeepSeek-V3.2, whose attention alone differs. */
export const deepseekV32 = deepseekV3Family("deepseek_v32", deepseekV3Defaults);

/** Kimi K2, which uses DeepSeek's configuration class under another name. */
export const kimiK2 = deepseekV3Family("kimi_k2", deepseekV3Defaults);

const oneGroup = { numGroups: 1, topGroups: 1 } as const;
const glm4Defaults: Defaults = {
  ...oneGroup,
  layers: 46,
  firstSparse: 1,
  hiddenSize: 4096,
  intermediateSize: 1408,
  numExperts: 128,
  scale: 1,
};

/** GLM-4.5, 4.6 and 4.7: Glm4MoeConfig of Transformers. */
export const glm4Moe = deepseekV3Family("glm4_moe", glm4Defaults);

/** The text model of GLM-4.5V: Glm4vMoeTextConfig. */
export const glm4vMoe = deepseekV3Family("glm4v_moe_text", glm4Defaults);

/** GLM-4.7-Flash: Glm4MoeLiteConfig. */
export const glm4MoeLite = deepseekV3Family("glm4_moe_lite", {
  ...oneGroup,
  layers: 47,
  firstSparse: 1,
  hiddenSize: 2048,
  intermediateSize: 1536,
  numExperts: 64,
  topK: 4,
  scale: 1.8,
});

/** GLM-5: GlmMoeDsaConfig, whose attention is DeepSeek-V3.2's. */
export const glmMoeDsa = deepseekV3Family("glm_moe_dsa", {
  ...oneGroup,
  layers: 78,
  firstSparse: 3,
  hiddenSize: 6144,
  intermediateSize: 2048,
  numExperts: 256,
  scale: 2.5,
});

/** The text model of GLM-5-Next: Glm5NextTextConfig, whose experts are limited as DeepSeek-V4's. */
export const glm5Next = deepseekV3Family("glm5_next_text", {
  ...oneGroup,
  layers: 45,
  firstSparse: 3,
  hiddenSize: 4096,
  intermediateSize: 2048,
  numExperts: 288,
  scale: 2.5,
  limit: 10,
});

/** Hy4: HYV4Config of Transformers, whose routed experts alone are limited. */
export const hyV4 = deepseekV3Family("hy_v4", {
  ...oneGroup,
  layers: 34,
  firstSparse: 1,
  hiddenSize: 2816,
  intermediateSize: 768,
  numExperts: 256,
  scale: 2.827,
  limit: 10,
  limitsShared: false,
});

/** GigaChat 3.5: GigaChat35Config and GigaChat35MoE of vLLM, whose experts are limited as DeepSeek-V4's. */
export const gigachat35 = deepseekV3Family("gigachat3_5", {
  ...deepseekV3Defaults,
  ...oneGroup,
  layers: 40,
  limit: 10,
});

/** Xing 4.0, with the sizes of its 29B-A4B: what SGLang's Xing4_0DecoderLayer makes of DeepSeek's block. */
export const xing40 = deepseekV3Family("xing4_0", {
  ...oneGroup,
  layers: 40,
  firstSparse: 2,
  hiddenSize: 3584,
  intermediateSize: 1024,
  numExperts: 64,
  topK: 4,
  scale: 2,
});

/** dots.llm1: Dots1Config. Its published files have the name of the choice where others have that of the score. */
export const dots1 = deepseekV3Family("dots1", {
  ...oneGroup,
  layers: 62,
  firstSparse: 0,
  hiddenSize: 4608,
  intermediateSize: 1408,
  numExperts: 128,
  topK: 6,
  normalize: false,
  scoring: "noaux_tc",
  scale: 1,
});

/** The text model of dots3-note: Dots3NoteTextConfig. */
export const dots3Note = deepseekV3Family("dots3_note_text", {
  ...oneGroup,
  layers: 46,
  firstSparse: 1,
  hiddenSize: 5120,
  intermediateSize: 1536,
  numExperts: 256,
  scale: 1,
  sharedWidth: 1536,
});

const solarDefaults: Defaults = { ...glm4Defaults, layers: 48, firstSparse: 0, intermediateSize: 1280 };

/** Solar Open: SolarOpenConfig, without dense layers. */
export const solarOpen = deepseekV3Family("solar_open", solarDefaults);

/** Solar Open 2: SolarOpen2Config of Transformers, whose attention differs. */
export const solarOpen2 = deepseekV3Family("solar_open2", { ...solarDefaults, numExperts: 320 });

const mimoDefaults: Defaults = {
  ...oneGroup,
  layers: 48,
  firstSparse: 1,
  hiddenSize: 4096,
  intermediateSize: 2048,
  numExperts: 256,
  scale: 1,
  sharedExperts: 0,
};

/** MiMo-V2-Flash: MiMoV2FlashConfig, without a shared expert. */
export const mimoV2Flash = deepseekV3Family("mimo_v2_flash", mimoDefaults);

/** Later models of MiMo-V2, whose attention differs. */
export const mimoV2 = deepseekV3Family("mimo_v2", mimoDefaults);

/** A.X K1: AXK1Config. */
export const axk1 = deepseekV3Family("axk1", { ...deepseekV3Defaults, firstSparse: 1, numExperts: 192 });

/** A.X K2: AXK2Config. */
export const axk2 = deepseekV3Family("axk2", {
  ...oneGroup,
  layers: 48,
  firstSparse: 1,
  hiddenSize: 2048,
  intermediateSize: 512,
  numExperts: 128,
  scale: 2.5,
});
