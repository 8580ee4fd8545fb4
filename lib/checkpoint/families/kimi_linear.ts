import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { Groups } from "../../operators/routing/gating_options.js";
import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors } from "../locate/locate_layer.js";
import { isSparseDeepseekLayer } from "./deepseek_v2.js";
import {
  blockTensors,
  type Family,
  gatedActivation,
  latentTokens,
  layerCount,
  scoreNames,
  sharedExpert,
  sharedTensors,
} from "./family.js";
import { mixtralTensors } from "./mixtral.js";

/**
 * Kimi Linear: KimiLinearConfig of Transformers, KimiSparseMoeBlock of Moonshot's own code. DeepSeek-V3's formula under other
 * names. Kimi K3 has the same `model_type`, and experts on a projection of the tokens, whose sum it may normalise.
 */
export const kimiLinear: Family = {
  modelType: "kimi_linear",
  layerCount: layerCount(27),
  hasExperts: (fields, layer) => isSparseDeepseekLayer(fields, layer, 1),
  config: (fields) => {
    const groups: Groups = {
      count: fields.integer("num_expert_group", 1, { alias: "n_group" }),
      top: fields.integer("topk_group", 1),
      score: "top2_sum",
    };
    const intermediateSize = fields.integer("moe_intermediate_size", 1024);
    return {
      hiddenSize: fields.integer("hidden_size", 2304),
      intermediateSize,
      numExperts: fields.integer("num_experts", 256, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_token", 8, { alias: "num_experts_per_tok" }),
      scoring: fields.choice("moe_router_activation_func", "sigmoid", scoreNames),
      ...(groups.count > 1 && fields.boolean("use_grouped_topk", true) && { groups }),
      normalize: fields.boolean("moe_renormalize", fields.boolean("norm_topk_prob", true)),
      scale: fields.number("routed_scaling_factor", 2.446),
      ...activationOf(fields),
      ...sharedExpert(sharedCount(fields), intermediateSize),
      ...latentTokens(
        fields,
        latentSize,
        hasNorm(fields) ? { epsilon: fields.number("rms_norm_eps", 1e-5) } : undefined,
      ),
    };
  },
  tensors: (prefix, fields) => {
    const [own, transformers] = [`${prefix}.block_sparse_moe`, `${prefix}.mlp`];
    const more = (block: string, owner = `${block}.gate`) => ({
      selectionBias: { name: `${owner}.e_score_correction_bias` },
      ...sharedTensors(block, sharedCount(fields)),
      ...latentTensors(block, fields),
    });
    return [
      ...mixtralTensors(own).map((tensors) => ({ ...tensors, ...more(own) })),
      ...blockTensors(transformers, more(transformers)),
      ...blockTensors(transformers, more(transformers, transformers)), // as MLX has them
    ];
  },
};

const latentSize = "routed_expert_hidden_size";

const hasNorm = (fields: ConfigFields) => fields.boolean("latent_moe_use_norm", false);

function latentTensors(block: string, fields: ConfigFields): Partial<LayerTensors> {
  if (!fields.has(latentSize)) return {};
  return {
    latentDown: { name: `${block}.routed_expert_down_proj.weight` },
    latentUp: { name: `${block}.routed_expert_up_proj.weight` },
    ...(hasNorm(fields) && { latentNormWeight: { name: `${block}.routed_expert_norm.weight` } }),
  };
}

/** SwiGLU, or SiTU, whose `linear_beta` may be null for up values without a limit. */
function activationOf(fields: ConfigFields): Pick<MoeLayerConfig, "activation" | "clamp"> {
  if (fields.value("hidden_act") !== "situ") return { activation: gatedActivation(fields) };
  const upLimit = fields.has("activation_situ_linear_beta") && fields.number("activation_situ_linear_beta", undefined);
  return {
    activation: "situ",
    clamp: { limit: fields.number("activation_situ_beta", 1), ...(upLimit && { upLimit }) },
  };
}

function sharedCount(fields: ConfigFields): number {
  return fields.integer("num_shared_experts", 1, { minimum: 0, alias: "n_shared_experts" });
}
