import { badCheckpoint } from "../bad_checkpoint.js";
import type { ConfigFields } from "../config_fields.js";
import { type Family, gatedActivation, layerCount } from "./family.js";
import { hunyuanTensors, sharedMlp } from "./hunyuan_v1_moe.js";

/** The smallest sum that the weights are divided by: float32's epsilon. */
const epsilon = 2 ** -23;

/**
 * HunYuan-Large: HunYuanConfig, topkgating and HunYuanMoE of Tencent's own code, which always drops: an expert takes
 * max(k, floor(k T / E)) choices, all first ones before the second ones. What is left is not renormalised. Whatever
 * `moe_drop_tokens` and `moe_random_routing_dropped_token` are, that code does not ask.
 */
export const hunyuan: Family = {
  modelType: "hunyuan",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => fields.integerOfLayer("num_experts", 1, layer) > 1,
  config: (fields, layer) => {
    checkLarge(fields);
    const intermediateSize = fields.integer("intermediate_size", 11008);
    const topK = fields.integerOfLayer("moe_topk", 1, layer);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integerOfLayer("num_experts", 1, layer),
      topK,
      normalize: { by: "clamped_sum", epsilon },
      capacity: { factor: 1, round: "down", minimum: topK, drop: "position" },
      activation: gatedActivation(fields),
      ...(hasShared(fields) && sharedMlp(fields, layer, intermediateSize)),
    };
  },
  tensors: (prefix, fields) => hunyuanTensors(prefix, hasShared(fields)),
};

function hasShared(fields: ConfigFields): boolean {
  return fields.boolean("use_mixed_mlp_moe", false);
}

/** Later models of the same `model_type` have other fields, and route in another way. */
function checkLarge(fields: ConfigFields): void {
  const other = ["moe_intermediate_size", "moe_layer_num_skipped", "n_group"].find((name) => fields.has(name));
  if (other === undefined) return;
  throw badCheckpoint(
    fields.path,
    `${other}: expected no such field in HunYuan-Large's configuration; that of Hunyuan-A13B has the model_type "hunyuan_v1_moe"`,
  );
}
