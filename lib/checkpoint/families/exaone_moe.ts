import type { ConfigFields } from "../config_fields.js";
import { bestGroups, isSparseDeepseekLayer } from "./deepseek_v2.js";
import { blockTensors, type Family, gatedActivation, layerCount, sharedExpert, sharedTensors } from "./family.js";

/** K-EXAONE: ExaoneMoeConfig and ExaoneMoeSparseMoEBlock of Transformers. DeepSeek-V3's formula under other names. */
export const exaoneMoe: Family = {
  modelType: "exaone_moe",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => {
    const listed = fields.value("is_moe_layer");
    return Array.isArray(listed) ? listed[layer] === true : isSparseDeepseekLayer(fields, layer, 1);
  },
  config: (fields) => {
    fields.require("scoring_func", "sigmoid");
    fields.require("topk_method", "noaux_tc");
    const intermediateSize = fields.integer("moe_intermediate_size", 1024);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integer("num_experts", 64, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", 8),
      scoring: "sigmoid",
      ...bestGroups(fields),
      normalize: fields.boolean("norm_topk_prob", true),
      scale: fields.number("routed_scaling_factor", 2.5),
      activation: gatedActivation(fields),
      ...sharedExpert(sharedCount(fields), intermediateSize),
    };
  },
  tensors: (prefix, fields) => {
    const block = `${prefix}.mlp`;
    // The published files have the first name, Transformers' classes the second.
    return [block, `${block}.gate`].flatMap((owner) =>
      blockTensors(block, {
        selectionBias: { name: `${owner}.e_score_correction_bias` },
        ...sharedTensors(block, sharedCount(fields)),
      }),
    );
  },
};

function sharedCount(fields: ConfigFields): number {
  return fields.integer("num_shared_experts", 1, { minimum: 0 });
}
