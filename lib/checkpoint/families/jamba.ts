import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";

/**
 * Jamba: JambaConfig and JambaSparseMoeBlock of Transformers. Softmax over all experts. Layers with a single expert
 * have no router and are dense.
 */
export const jamba: Family = {
  modelType: "jamba",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) =>
    fields.integer("num_experts", 16) > 1 &&
    layer % fields.integer("expert_layer_period", 2) === fields.integer("expert_layer_offset", 1, { minimum: 0 }),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 4096),
    intermediateSize: fields.integer("intermediate_size", 14336),
    numExperts: fields.integer("num_experts", 16, { alias: "num_local_experts" }),
    topK: fields.integer("num_experts_per_tok", 2),
    activation: gatedActivation(fields),
  }),
  tensors: (prefix) =>
    blockTensors(`${prefix}.feed_forward`, { router: { name: `${prefix}.feed_forward.router.weight` } }),
};
