import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";

/** OLMoE: OlmoeConfig and OlmoeSparseMoeBlock of Transformers. Softmax over all experts. */
export const olmoe: Family = {
  modelType: "olmoe",
  layerCount: layerCount(16),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 2048),
    intermediateSize: fields.integer("intermediate_size", 2048),
    numExperts: fields.integer("num_experts", 64, { alias: "num_local_experts" }),
    topK: fields.integer("num_experts_per_tok", 8),
    normalize: fields.boolean("norm_topk_prob", false),
    activation: gatedActivation(fields),
  }),
  tensors: (prefix) => blockTensors(`${prefix}.mlp`),
};
