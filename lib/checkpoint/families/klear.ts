import { blockTensors, type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";
import { isSparseQwenLayer } from "./qwen2_moe.js";

/**
 * Klear: KlearSparseMoeBlock of Kwai's own code. Sigmoid; experts are chosen by score plus bias, and weighted by their scores,
 * renormalised; a residual MoE, whose softmax weighs the routed experts against the shared one.
 */
export const klear: Family = {
  modelType: "Klear",
  layerCount: layerCount(undefined),
  hasExperts: isSparseQwenLayer,
  config: (fields) => {
    const intermediateSize = fields.integer("moe_intermediate_size", undefined);
    return {
      hiddenSize: fields.integer("hidden_size", undefined),
      intermediateSize,
      numExperts: fields.integer("num_experts", undefined),
      topK: fields.integer("num_experts_per_tok", undefined),
      scoring: "sigmoid",
      normalize: fields.boolean("norm_topk_prob", undefined),
      activation: gatedActivation(fields),
      sharedExpert: {
        intermediateSize: intermediateSize * fields.integer("n_shared_experts", undefined),
        gate: "softmax",
      },
    };
  },
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    return blockTensors(block, {
      selectionBias: { name: `${block}.expert_bias` },
      shared: gatedExpert(`${block}.shared_experts`),
      sharedGate: { name: `${block}.coefficient.weight` },
      sharedGateBias: { name: `${block}.coefficient.bias` },
    });
  },
};
