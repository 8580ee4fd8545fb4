import { type Family, gatedActivation } from "./family.js";

/** Mixtral: MixtralConfig and MixtralSparseMoeBlock of Transformers. Softmax over all experts, renormalised. */
export const mixtral: Family = {
  modelType: "mixtral",
  defaultLayers: 32,
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 4096),
    intermediateSize: fields.integer("intermediate_size", 14336),
    numExperts: fields.integer("num_local_experts", 8, { alias: "num_experts" }),
    topK: fields.integer("num_experts_per_tok", 2),
    normalize: true,
    activation: gatedActivation(fields),
  }),
  tensors: (prefix) => ({
    router: `${prefix}.block_sparse_moe.gate.weight`,
    gate: `${prefix}.block_sparse_moe.experts.{e}.w1.weight`,
    up: `${prefix}.block_sparse_moe.experts.{e}.w3.weight`,
    down: `${prefix}.block_sparse_moe.experts.{e}.w2.weight`,
  }),
};
