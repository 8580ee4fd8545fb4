import { blockTensors, type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";

/**
 * LFM2-MoE: Lfm2MoeConfig and Lfm2MoeSparseMoeBlock of Transformers. Sigmoid; experts are chosen by score plus bias, and
 * weighted by their scores, divided by their sum plus a small number. The first layers are dense.
 */
export const lfm2Moe: Family = {
  modelType: "lfm2_moe",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => layer >= fields.integer("num_dense_layers", 2, { minimum: 0 }),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 2048),
    intermediateSize: fields.integer("moe_intermediate_size", 1792),
    numExperts: fields.integer("num_experts", 32, { alias: "num_local_experts" }),
    topK: fields.integer("num_experts_per_tok", 4),
    scoring: "sigmoid",
    ...(fields.boolean("norm_topk_prob", true) && { normalize: { by: "sum_plus_epsilon", epsilon: 1e-6 } }),
    scale: fields.number("routed_scaling_factor", 1),
    activation: gatedActivation(fields),
  }),
  tensors: (prefix, fields) => {
    const block = `${prefix}.feed_forward`;
    const biased = fields.boolean("use_expert_bias", true);
    const more = biased ? { selectionBias: { name: `${block}.expert_bias` } } : {};
    const transformers = blockTensors(block, more);
    const own = { ...transformers[0], experts: gatedExpert(`${block}.experts.{e}`, ["w1", "w3", "w2"]) };
    return [own, ...transformers];
  },
};
