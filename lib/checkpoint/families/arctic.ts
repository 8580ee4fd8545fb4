import { type Family, gatedActivation, layerCount } from "./family.js";
import { mixtralTensors } from "./mixtral.js";

/**
 * Snowflake Arctic: ArcticConfig and ArcticMoE of its own code and of vLLM. Mixtral's formula in every `moe_layer_frequency`-th layer;
 * a single expert a token keeps its probability. The dense block beside the experts is not part of the layer.
 */
export const arctic: Family = {
  modelType: "arctic",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => (layer + 1) % fields.integer("moe_layer_frequency", 2) === 0,
  config: (fields) => {
    const topK = fields.integer("num_experts_per_tok", 1);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize: fields.integer("intermediate_size", 14336),
      numExperts: fields.integer("num_local_experts", 8, { alias: "num_experts" }),
      topK,
      normalize: topK > 1,
      activation: gatedActivation(fields),
    };
  },
  tensors: (prefix) => mixtralTensors(`${prefix}.block_sparse_moe`),
};
