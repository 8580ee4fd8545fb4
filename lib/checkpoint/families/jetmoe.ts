import { type Family, fusedExpert, gatedActivation, layerCount } from "./family.js";

/**
 * JetMoE: JetMoeConfig and JetMoeMoE of Transformers, without its mixture of attention heads. Softmax over the chosen. The
 * bias that it adds to the sum of the experts is every expert's here, as their weights sum to 1.
 */
export const jetMoe: Family = {
  modelType: "jetmoe",
  layerCount: layerCount(12),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 2048),
    intermediateSize: fields.integer("intermediate_size", 5632),
    numExperts: fields.integer("num_local_experts", 8, { alias: "num_experts" }),
    topK: fields.integer("num_experts_per_tok", 2),
    scoring: "softmax_selected",
    activation: gatedActivation(fields, "activation_function"),
  }),
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    const stack = (name: string) => ({ name: `${block}.${name}.weight`, stacked: "dim0" }) as const;
    return [
      {
        router: { name: `${block}.router.layer.weight` },
        experts: { ...fusedExpert(stack("input_linear"), stack("output_linear")), downBias: { name: `${block}.bias` } },
      },
    ];
  },
};
