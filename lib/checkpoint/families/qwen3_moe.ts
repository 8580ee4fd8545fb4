import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";

/**
 * Qwen3-MoE: Qwen3MoeConfig and Qwen3MoeSparseMoeBlock of Transformers. Softmax over all experts. Layers of
 * `mlp_only_layers`, and those that `decoder_sparse_step` skips, are dense.
 */
export const qwen3Moe: Family = {
  modelType: "qwen3_moe",
  layerCount: layerCount(24),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 2048),
    intermediateSize: fields.integer("moe_intermediate_size", 768),
    numExperts: fields.integer("num_experts", 128, { alias: "num_local_experts" }),
    topK: fields.integer("num_experts_per_tok", 8),
    normalize: fields.boolean("norm_topk_prob", false),
    activation: gatedActivation(fields),
  }),
  hasExperts: (fields, layer) =>
    !fields.integers("mlp_only_layers", []).includes(layer) &&
    (layer + 1) % fields.integer("decoder_sparse_step", 1) === 0,
  tensors: (prefix) => blockTensors(`${prefix}.mlp`),
};
