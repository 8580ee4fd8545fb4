import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ConfigFields } from "../config_fields.js";
import { blockTensors, type Family, gatedActivation, layerCount, sharedExpert, sharedTensors } from "./family.js";

const layers = layerCount(28);

/**
 * ERNIE 4.5: Ernie4_5_MoeConfig and Ernie4_5_MoeSparseMoeBlock of Transformers. Softmax over all experts, chosen by
 * probability plus bias, divided by their sum or `moe_norm_min`, whichever is larger; the shared experts form one wide
 * expert.
 */
export const ernie45Moe: Family = {
  modelType: "ernie4_5_moe",
  layerCount: layers,
  hasExperts: (fields, layer) => {
    const end = fields.integer("moe_layer_end_index", -1, { minimum: -1 });
    const last = end === -1 ? layers(fields) - 1 : end;
    const first = fields.integer("moe_layer_start_index", 1, { minimum: 0 });
    return layer >= first && layer <= last && (layer + 1) % fields.integer("moe_layer_interval", 1) === 0;
  },
  config: (fields) => {
    const intermediateSize = fields.integer("moe_intermediate_size", 1536);
    const numExperts = fields.integer("moe_num_experts", 64, { alias: "num_experts" });
    return ernieConfig(fields, intermediateSize, numExperts, sharedExpert(sharedCount(fields, 2), intermediateSize));
  },
  tensors: (prefix, fields) => {
    const biases = fields.boolean("use_bias", false);
    const block = `${prefix}.mlp`;
    // The published files have the first name, the classes of Transformers 5 the second.
    return [block, `${block}.gate`].flatMap((owner) => {
      const more = {
        selectionBias: { name: `${owner}.moe_statics.e_score_correction_bias` },
        ...sharedTensors(block, sharedCount(fields, 2), biases),
      };
      return blockTensors(block, more, biases);
    });
  },
};

/** Its formula. */
export function ernieConfig(
  fields: ConfigFields,
  intermediateSize: number,
  numExperts: number,
  shared: Pick<MoeLayerConfig, "sharedExpert">,
): MoeLayerConfig {
  return {
    hiddenSize: fields.integer("hidden_size", 2560),
    intermediateSize,
    numExperts,
    topK: fields.integer("moe_k", 6, { alias: "num_experts_per_tok" }),
    normalize: { by: "clamped_sum", epsilon: fields.number("moe_norm_min", 1e-12) },
    activation: gatedActivation(fields),
    ...shared,
  };
}

export function sharedCount(fields: ConfigFields, fallback: number): number {
  return fields.integer("moe_num_shared_experts", fallback, { minimum: 0 });
}
