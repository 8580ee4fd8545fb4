import type { ConfigFields } from "../config_fields.js";
import { blockTensors, type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";

/**
 * Qwen1.5-MoE and Qwen2-MoE: Qwen2MoeConfig and Qwen2MoeSparseMoeBlock of Transformers. Softmax over all experts, and a
 * shared expert times the sigmoid of its gate.
 */
export const qwen2Moe: Family = {
  modelType: "qwen2_moe",
  layerCount: layerCount(24),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 2048),
    intermediateSize: fields.integer("moe_intermediate_size", 1408),
    numExperts: fields.integer("num_experts", 60, { alias: "num_local_experts" }),
    topK: fields.integer("num_experts_per_tok", 4),
    normalize: fields.boolean("norm_topk_prob", false),
    activation: gatedActivation(fields),
    sharedExpert: { intermediateSize: fields.integer("shared_expert_intermediate_size", 5632), gate: "sigmoid" },
  }),
  hasExperts: isSparseQwenLayer,
  tensors: (prefix) =>
    blockTensors(`${prefix}.mlp`, {
      shared: gatedExpert(`${prefix}.mlp.shared_expert`),
      sharedGate: { name: `${prefix}.mlp.shared_expert_gate.weight` },
    }),
};

/** Layers listed in `mlp_only_layers` or skipped by `decoder_sparse_step` are dense. */
export function isSparseQwenLayer(fields: ConfigFields, layer: number): boolean {
  const step = fields.integer("decoder_sparse_step", 1);
  return !fields.integers("mlp_only_layers", []).includes(layer) && (layer + 1) % step === 0;
}
