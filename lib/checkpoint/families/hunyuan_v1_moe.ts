import type { ConfigFields } from "../config_fields.js";
import { blockTensors, type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";

/**
 * Hunyuan-A13B: HunYuanMoEV1Config and HunYuanMoEV1Moe of Transformers. Softmax over all experts, renormalised, and a
 * shared expert. As in Tencent's hunyuan.py, sizes may differ between layers, the first layers may be dense, and
 * `use_mixed_mlp_moe` says whether there is a shared expert; in Transformers there always is.
 */
export const hunyuanV1Moe: Family = {
  modelType: "hunyuan_v1_moe",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => layer >= fields.integer("moe_layer_num_skipped", 0, { minimum: 0 }),
  config: (fields, layer) => {
    const dense = fields.integer("intermediate_size", 11008);
    const intermediateSize = fields.integerOfLayer("moe_intermediate_size", dense, layer);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integerOfLayer("num_experts", 1, layer),
      topK: fields.integerOfLayer("moe_topk", 1, layer),
      normalize: true,
      activation: gatedActivation(fields),
      ...(hasShared(fields) && sharedMlp(fields, layer, intermediateSize)),
    };
  },
  tensors: (prefix, fields) => hunyuanTensors(prefix, hasShared(fields)),
};

/** The shared expert, which is as wide as `num_shared_expert` of the others. */
export function sharedMlp(fields: ConfigFields, layer: number, intermediateSize: number) {
  const experts = fields.integerOfLayer("num_shared_expert", 1, layer);
  return { sharedExpert: { intermediateSize: intermediateSize * experts } };
}

export function hunyuanTensors(prefix: string, shared: boolean) {
  return blockTensors(`${prefix}.mlp`, {
    router: { name: `${prefix}.mlp.gate.wg.weight` },
    ...(shared && { shared: gatedExpert(`${prefix}.mlp.shared_mlp`) }),
  });
}

function hasShared(fields: ConfigFields): boolean {
  return fields.boolean("use_mixed_mlp_moe", true);
}
