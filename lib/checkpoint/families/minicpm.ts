import { type Family, gatedActivation, layerCount } from "./family.js";
import { mixtralTensors } from "./mixtral.js";

/** MiniCPM-MoE: MiniCPMMoE of OpenBMB's own code and of vLLM. Mixtral's formula; other models of this type have no experts. */
export const minicpm: Family = {
  modelType: "minicpm",
  layerCount: layerCount(32),
  hasExperts: (fields) => fields.integer("num_experts", 0, { minimum: 0 }) > 0,
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 4096),
    intermediateSize: fields.integer("intermediate_size", 11008),
    numExperts: fields.integer("num_experts", undefined),
    topK: fields.integer("num_experts_per_tok", undefined),
    normalize: true,
    activation: gatedActivation(fields),
  }),
  tensors: (prefix) => mixtralTensors(`${prefix}.mlp`),
};
