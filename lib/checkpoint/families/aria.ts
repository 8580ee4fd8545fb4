import { type Family, fusedExpert, gatedActivation, gatedExpert, layerCount } from "./family.js";

/**
 * The text model of Aria: AriaTextConfig and AriaTextMoELayer of Transformers. Softmax over the chosen; experts stacked with
 * inputs first; the shared experts form one wide expert.
 */
export const ariaText: Family = {
  modelType: "aria_text",
  layerCount: layerCount(32),
  config: (fields) => {
    const intermediateSize = fields.integer("intermediate_size", 4096);
    const shared = fields.integer("moe_num_shared_experts", 2);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integer("moe_num_experts", 8),
      topK: fields.integer("moe_topk", 2),
      scoring: "softmax_selected",
      activation: gatedActivation(fields),
      sharedExpert: { intermediateSize: shared * intermediateSize },
    };
  },
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    const stack = (name: string) =>
      ({ name: `${block}.experts.${name}.weight`, stacked: "dim0", orient: "in_out" }) as const;
    return [
      {
        router: { name: `${block}.router.weight` },
        experts: fusedExpert(stack("fc1"), stack("fc2")),
        shared: gatedExpert(`${block}.shared_experts`),
      },
    ];
  },
};
