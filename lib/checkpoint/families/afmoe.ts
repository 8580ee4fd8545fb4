import type { ConfigFields } from "../config_fields.js";
import { bestGroups } from "./deepseek_v2.js";
import { blockTensors, type Family, gatedActivation, layerCount, sharedExpert, sharedTensors } from "./family.js";

/**
 * Trinity: AfmoeConfig and AfmoeMoE of Transformers. DeepSeek-V3's formula under other names; the first layers are dense.
 * `route_norm`, `score_func` and groups come from Arcee's own code; Transformers always renormalises, and has no groups.
 */
export const afmoe: Family = {
  modelType: "afmoe",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => layer >= fields.integer("num_dense_layers", 1, { minimum: 0 }),
  config: (fields) => {
    fields.require("score_func", "sigmoid");
    const intermediateSize = fields.integer("moe_intermediate_size", 1408);
    return {
      hiddenSize: fields.integer("hidden_size", 2048),
      intermediateSize,
      numExperts: fields.integer("num_experts", 64, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", 6),
      scoring: "sigmoid",
      ...bestGroups(fields),
      normalize: fields.boolean("route_norm", true),
      scale: fields.number("route_scale", 1),
      activation: gatedActivation(fields),
      ...sharedExpert(sharedCount(fields), intermediateSize),
    };
  },
  tensors: (prefix, fields) => {
    const block = `${prefix}.mlp`;
    return blockTensors(block, {
      router: { name: `${block}.router.gate.weight` },
      selectionBias: { name: `${block}.expert_bias` },
      ...sharedTensors(block, sharedCount(fields)),
    });
  },
};

function sharedCount(fields: ConfigFields): number {
  return fields.integer("num_shared_experts", 2, { minimum: 0 });
}
