import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";
import { isSparseQwenLayer } from "./qwen2_moe.js";

/** Qwen3-MoE: Qwen3MoeConfig and Qwen3MoeSparseMoeBlock of Transformers. Softmax over all experts. */
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
  hasExperts: isSparseQwenLayer,
  tensors: (prefix) => blockTensors(`${prefix}.mlp`),
};
