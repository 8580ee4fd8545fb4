import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";

/** The defaults by which the families differ. */
interface Defaults {
  readonly layers: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numExperts: number;
  readonly topK: number;
}

/** OlmoeSparseMoeBlock of Transformers. Softmax over all experts. */
function olmoeFamily(modelType: string, defaults: Defaults): Family {
  return {
    modelType,
    layerCount: layerCount(defaults.layers),
    config: (fields) => ({
      hiddenSize: fields.integer("hidden_size", defaults.hiddenSize),
      intermediateSize: fields.integer("intermediate_size", defaults.intermediateSize),
      numExperts: fields.integer("num_experts", defaults.numExperts, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", defaults.topK),
      normalize: fields.boolean("norm_topk_prob", false),
      activation: gatedActivation(fields),
    }),
    tensors: (prefix) => blockTensors(`${prefix}.mlp`),
  };
}

/** OLMoE: OlmoeConfig. */
export const olmoe = olmoeFamily("olmoe", {
  layers: 16,
  hiddenSize: 2048,
  intermediateSize: 2048,
  numExperts: 64,
  topK: 8,
});

/** FlexOlmo: FlexOlmoConfig. */
export const flexOlmo = olmoeFamily("flex_olmo", {
  layers: 32,
  hiddenSize: 4096,
  intermediateSize: 11008,
  numExperts: 7,
  topK: 5,
});
