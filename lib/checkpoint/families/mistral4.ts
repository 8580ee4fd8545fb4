import { bestGroups, isSparseDeepseekLayer, sharedCount } from "./deepseek_v2.js";
import { blockTensors, type Family, gatedActivation, layerCount, sharedExpert, sharedTensors } from "./family.js";

/**
 * Mistral Small 4: Mistral4Config and Mistral4MoE of Transformers. Softmax over all experts, limited to the groups whose two
 * best have the largest sum, renormalised and scaled; a shared expert.
 */
export const mistral4: Family = {
  modelType: "mistral4",
  layerCount: layerCount(36),
  hasExperts: (fields, layer) => isSparseDeepseekLayer(fields, layer, 0),
  config: (fields) => {
    const intermediateSize = fields.integer("moe_intermediate_size", 2048);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integer("n_routed_experts", 128, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", 4),
      ...bestGroups(fields),
      normalize: fields.boolean("norm_topk_prob", true),
      scale: fields.number("routed_scaling_factor", 1),
      activation: gatedActivation(fields),
      ...sharedExpert(sharedCount(fields, 1), intermediateSize),
    };
  },
  tensors: (prefix, fields) => blockTensors(`${prefix}.mlp`, sharedTensors(`${prefix}.mlp`, sharedCount(fields, 1))),
};
