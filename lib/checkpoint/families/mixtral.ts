import { blockTensors, type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";

/** Mixtral: MixtralConfig and MixtralSparseMoeBlock of Transformers. Softmax over all experts, renormalised. */
export const mixtral: Family = {
  modelType: "mixtral",
  layerCount: layerCount(32),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 4096),
    intermediateSize: fields.integer("intermediate_size", 14336),
    numExperts: fields.integer("num_local_experts", 8, { alias: "num_experts" }),
    topK: fields.integer("num_experts_per_tok", 2),
    normalize: true,
    activation: gatedActivation(fields),
  }),
  tensors: (prefix) => [...mixtralTensors(`${prefix}.block_sparse_moe`), ...blockTensors(`${prefix}.mlp`)],
};

/** Mixtral's own tensor names, in which w1, w3 and w2 are gate, up and down. */
export function mixtralTensors(block: string): ReturnType<Family["tensors"]> {
  const experts = gatedExpert(`${block}.experts.{e}`, ["w1", "w3", "w2"]);
  return [{ router: { name: `${block}.gate.weight` }, experts }];
}
