import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";
import { mixtralTensors } from "./mixtral.js";

/**
 * MiniMax-M2: MiniMaxM2Config and MiniMaxM2SparseMoeBlock of Transformers. Sigmoid; experts are chosen by score plus bias,
 * and weighted by their scores, renormalised. The class is asked for first: it was published as `minimax`, too.
 */
export const minimaxM2: Family = {
  modelType: "minimax_m2",
  architecture: "MiniMaxM2ForCausalLM",
  layerCount: layerCount(62),
  config: (fields) => {
    fields.require("scoring_func", "sigmoid");
    fields.require("shared_intermediate_size", 0);
    return {
      hiddenSize: fields.integer("hidden_size", 3072),
      intermediateSize: fields.integer("intermediate_size", 1536),
      numExperts: fields.integer("num_local_experts", 256, { alias: "num_experts" }),
      topK: fields.integer("num_experts_per_tok", 8),
      scoring: "sigmoid",
      normalize: true,
      activation: gatedActivation(fields),
    };
  },
  tensors: (prefix, fields) => {
    const biased = fields.boolean("use_routing_bias", true);
    const more = (block: string) => (biased ? { selectionBias: { name: `${block}.e_score_correction_bias` } } : {});
    const [own, transformers] = [`${prefix}.block_sparse_moe`, `${prefix}.mlp`];
    return [
      ...mixtralTensors(own).map((tensors) => ({ ...tensors, ...more(own) })),
      ...blockTensors(transformers, more(transformers)),
    ];
  },
};
