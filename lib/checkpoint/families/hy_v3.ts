import type { ConfigFields } from "../config_fields.js";
import { isSparseDeepseekLayer } from "./deepseek_v2.js";
import { blockTensors, type Family, gatedActivation, gatedExpert, layerCount, sharedExpert } from "./family.js";

/**
 * Hy3: HYV3Config and HYV3MoE of Transformers. Sigmoid; experts are chosen by score plus bias, and weighted by their
 * scores, renormalised and scaled. `route_norm` comes from Tencent's own code; in Transformers it is always true.
 */
export const hyV3: Family = {
  modelType: "hy_v3",
  layerCount: layerCount(80),
  hasExperts: (fields, layer) => isSparseDeepseekLayer(fields, layer, 1),
  config: (fields) => {
    fields.require("moe_router_use_sigmoid", true);
    fields.require("mlp_bias", false);
    const intermediateSize = fields.integer("moe_intermediate_size", 1536, { alias: "expert_hidden_dim" });
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integer("num_experts", 192, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", 8),
      scoring: "sigmoid",
      normalize: fields.boolean("route_norm", true),
      scale: fields.number("router_scaling_factor", 2.826),
      activation: gatedActivation(fields),
      ...sharedExpert(sharedCount(fields), intermediateSize),
    };
  },
  tensors: (prefix, fields) => {
    const block = `${prefix}.mlp`;
    const shared = sharedCount(fields) > 0;
    const biased = fields.boolean("moe_router_enable_expert_bias", true);
    const named = (router: string, bias: string, expert: string) =>
      blockTensors(block, {
        router: { name: `${block}.${router}.weight` },
        ...(biased && { selectionBias: { name: `${block}.${bias}` } }),
        ...(shared && { shared: gatedExpert(`${block}.${expert}`) }),
      });
    return [
      ...named("router.gate", "expert_bias", "shared_mlp"),
      ...named("gate", "e_score_correction_bias", "shared_experts"),
    ];
  },
};

function sharedCount(fields: ConfigFields): number {
  return fields.integer("num_shared_experts", 1, { minimum: 0 });
}
