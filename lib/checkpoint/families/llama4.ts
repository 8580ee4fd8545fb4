import { type Family, gatedActivation, gatedExpert, layerCount, stackedOrSingle } from "./family.js";

/**
 * Llama 4: Llama4TextConfig and Llama4TextMoe of Transformers, alone or inside a multimodal model. Experts are chosen
 * by logit, whose sigmoid multiplies their input; a shared expert of the same width is added.
 */
export const llama4Text: Family = {
  modelType: "llama4_text",
  layerCount: layerCount(48),
  hasExperts: (fields, layer) => {
    if (fields.has("moe_layers")) return fields.integers("moe_layers", []).includes(layer);
    const step = fields.integer("interleave_moe_layer_step", 1);
    return (layer + 1) % step === 0;
  },
  config: (fields) => {
    const intermediateSize = fields.integer("intermediate_size", 8192);
    return {
      hiddenSize: fields.integer("hidden_size", 5120),
      intermediateSize,
      numExperts: fields.integer("num_local_experts", 16, { alias: "num_experts" }),
      topK: fields.integer("num_experts_per_tok", 1),
      scoring: "sigmoid",
      selectionKey: "logit",
      weightOn: "input",
      activation: gatedActivation(fields),
      sharedExpert: { intermediateSize },
    };
  },
  tensors: (prefix) => {
    const block = `${prefix}.feed_forward`;
    const others = { router: { name: `${block}.router.weight` }, shared: gatedExpert(`${block}.shared_expert`) };
    return stackedOrSingle(others, `${block}.experts`, "in_out");
  },
};
