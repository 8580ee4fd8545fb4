import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";
import { mixtralTensors } from "./mixtral.js";

/** Phi-3.5-MoE: PhimoeConfig and PhimoeSparseMoeBlock of Transformers. SparseMixer, defined for two experts only. */
export const phimoe: Family = {
  modelType: "phimoe",
  layerCount: layerCount(32),
  config: (fields) => {
    fields.require("num_experts_per_tok", 2);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize: fields.integer("intermediate_size", 6400),
      numExperts: fields.integer("num_local_experts", 16, { alias: "num_experts" }),
      topK: 2,
      scoring: "sparsemixer",
      jitter: fields.number("router_jitter_noise", 0.01),
      activation: gatedActivation(fields),
    };
  },
  tensors: (prefix) => [
    ...mixtralTensors(`${prefix}.block_sparse_moe`),
    ...blockTensors(`${prefix}.mlp`, { router: { name: `${prefix}.mlp.router.weight` } }),
  ],
};
