import type { Groups } from "../../operators/routing/gating_options.js";
import { isSparseDeepseekLayer } from "./deepseek_v2.js";
import { type Family, gatedActivation, gatedExpert, layerCount, refuseLatentTokens } from "./family.js";
import { mixtralTensors } from "./mixtral.js";

const scorings = new Map([
  ["sigmoid", "sigmoid"],
  ["softmax", "softmax"],
] as const);

/**
 * Kimi Linear: KimiLinearConfig and KimiSparseMoeBlock of Moonshot's own code. DeepSeek-V3's formula under other names.
 * Kimi K3 has the same `model_type`, and experts on a projection of the tokens.
 */
export const kimiLinear: Family = {
  modelType: "kimi_linear",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => isSparseDeepseekLayer(fields, layer, 0),
  config: (fields) => {
    refuseLatentTokens(fields, "routed_expert_hidden_size");
    const groups: Groups = {
      count: fields.integer("num_expert_group", 1),
      top: fields.integer("topk_group", 1),
      score: "top2_sum",
    };
    const topK = fields.integer("num_experts_per_token", undefined);
    const intermediateSize = fields.integer("moe_intermediate_size", undefined);
    const shared = fields.integer("num_shared_experts", 0, { minimum: 0 });
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integer("num_experts", undefined),
      topK,
      scoring: fields.choice("moe_router_activation_func", "sigmoid", scorings),
      ...(groups.count > 1 && fields.boolean("use_grouped_topk", true) && { groups }),
      normalize: fields.boolean("moe_renormalize", true) && topK > 1,
      scale: fields.number("routed_scaling_factor", 1),
      activation: gatedActivation(fields),
      ...(shared > 0 && { sharedExpert: { intermediateSize: shared * intermediateSize } }),
    };
  },
  tensors: (prefix, fields) => {
    const block = `${prefix}.block_sparse_moe`;
    const shared = fields.integer("num_shared_experts", 0, { minimum: 0 }) > 0;
    return mixtralTensors(block).map((tensors) => ({
      ...tensors,
      selectionBias: { name: `${block}.gate.e_score_correction_bias` },
      ...(shared && { shared: gatedExpert(`${block}.shared_experts`) }),
    }));
  },
};
