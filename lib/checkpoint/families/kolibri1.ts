import { blockTensors, type Family, gatedActivation, layerCount, sharedTensors } from "./family.js";

/**
 * Kolibri 1: Kolibri1Config and Kolibri1SparseMoeBlock of Transformers. Experts are chosen by logit plus bias, and weighted by the
 * sigmoids of their logits, renormalised or not; a shared expert of a width of its own.
 */
export const kolibri1: Family = {
  modelType: "kolibri1",
  layerCount: layerCount(50),
  hasExperts: () => true,
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 2560),
    intermediateSize: fields.integer("moe_intermediate_size", 512),
    numExperts: fields.integer("num_experts", 384, { alias: "num_local_experts" }),
    topK: fields.integer("num_experts_per_tok", 6),
    scoring: "sigmoid",
    selectionKey: "logit",
    normalize: fields.boolean("norm_topk_prob", false),
    activation: gatedActivation(fields),
    sharedExpert: { intermediateSize: fields.integer("shared_expert_intermediate_size", 512) },
  }),
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    // The published files have the first name, Transformers' classes the second.
    return [`${prefix}.moe.router.expert_bias`, `${block}.gate.e_score_correction_bias`].flatMap((name) =>
      blockTensors(block, { selectionBias: { name }, ...sharedTensors(block, 1) }),
    );
  },
};
