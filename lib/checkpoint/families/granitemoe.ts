import { type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";

/** Granite 3 MoE: GraniteMoeConfig and GraniteMoeMoE of Transformers. Softmax over the chosen; stacked experts. */
export const graniteMoe: Family = {
  modelType: "granitemoe",
  layerCount: layerCount(32),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 4096),
    intermediateSize: fields.integer("intermediate_size", 11008),
    numExperts: fields.integer("num_local_experts", 8, { alias: "num_experts" }),
    topK: fields.integer("num_experts_per_tok", 2),
    scoring: "softmax_selected",
    activation: gatedActivation(fields),
  }),
  tensors: (prefix) => {
    const block = `${prefix}.block_sparse_moe`;
    const gateUp = { name: `${block}.input_linear.weight`, stacked: "dim0" } as const;
    const router = { name: `${block}.router.layer.weight` };
    const stacked = {
      gate: { ...gateUp, part: "first_half" },
      up: { ...gateUp, part: "second_half" },
      down: { name: `${block}.output_linear.weight`, stacked: "dim0" },
    } as const;
    // vLLM gives single experts Mixtral's names, under which it also reads quantised ones.
    return [
      { router, experts: stacked },
      { router, experts: gatedExpert(`${block}.experts.{e}`, ["w1", "w3", "w2"]) },
    ];
  },
};
