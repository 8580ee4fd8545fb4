import { type Family, gatedExpert, layerCount } from "./family.js";

/**
 * SmallThinker: SmallThinkerConfig and SmallThinkerMoeBlock of PowerInfer's own code. The router reads the tokens before the
 * attention and its norm; experts are chosen by logit, and weighted by a softmax over the chosen, or by their sigmoids,
 * renormalised.
 */
export const smallThinker: Family = {
  modelType: "smallthinker",
  layerCount: layerCount(32),
  config: (fields) => {
    fields.require("moe_enable_early_router", true);
    fields.require("moe_enable_secondary_experts", false);
    fields.require("moe_shared_primary_experts", 0);
    return {
      hiddenSize: fields.integer("hidden_size", 1536),
      intermediateSize: fields.integer("moe_ffn_hidden_size", 768),
      numExperts: fields.integer("moe_num_primary_experts", 32),
      topK: fields.integer("moe_num_active_primary_experts", 4),
      ...(fields.boolean("moe_primary_router_apply_softmax", false)
        ? { scoring: "softmax_selected" }
        : { scoring: "sigmoid", selectionKey: "logit", normalize: true }),
      separateRouterInput: true,
      activation: "reglu",
    };
  },
  tensors: (prefix) => {
    const block = `${prefix}.block_sparse_moe`;
    const router = { name: `${block}.primary_router.weight` };
    return [{ router, experts: gatedExpert(`${block}.experts.{e}`, ["gate", "up", "down"]) }];
  },
};
