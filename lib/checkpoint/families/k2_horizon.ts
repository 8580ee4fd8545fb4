import type { ConfigFields } from "../config_fields.js";
import {
  blockTensors,
  type Family,
  gatedActivation,
  layerCount,
  scoreNames,
  sharedExpert,
  sharedTensors,
} from "./family.js";
import { isSparseQwenLayer } from "./qwen2_moe.js";

/**
 * K2 Horizon: K2HorizonConfig and K2HorizonSparseMoeBlock of Transformers. Softmax or sigmoid; a bias may take part in the
 * choice of experts. The experts that attention's values have are not part of the layer.
 */
export const k2Horizon: Family = {
  modelType: "k2_horizon",
  layerCount: layerCount(28),
  hasExperts: (fields, layer) =>
    fields.integer("num_experts", 0, { minimum: 0 }) > 0 && isSparseQwenLayer(fields, layer),
  config: (fields) => {
    const intermediateSize = fields.integer("moe_intermediate_size", 768);
    return {
      hiddenSize: fields.integer("hidden_size", 1536),
      intermediateSize,
      numExperts: fields.integer("num_experts", undefined),
      topK: fields.integer("num_experts_per_tok", 8),
      scoring: fields.choice("router_score_func", "softmax", scoreNames),
      normalize: fields.boolean("norm_topk_prob", false),
      scale: fields.number("router_scaling_factor", 1),
      activation: gatedActivation(fields),
      ...sharedExpert(sharedCount(fields), intermediateSize),
    };
  },
  tensors: (prefix, fields) =>
    blockTensors(`${prefix}.mlp`, {
      ...(fields.boolean("moe_gate_bias", false) && { selectionBias: { name: `${prefix}.mlp.gate.bias` } }),
      ...sharedTensors(`${prefix}.mlp`, sharedCount(fields)),
    }),
};

function sharedCount(fields: ConfigFields): number {
  return fields.integer("num_shared_experts", 0, { minimum: 0 });
}
