import { blockTensors, type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";

/**
 * Hunyuan-A13B: HunYuanMoEV1Config and HunYuanMoEV1Moe of Transformers, whose sizes may differ from layer to layer, as in
 * Tencent's own hunyuan.py. Softmax over all experts, renormalised, and a shared expert.
 */
export const hunyuanV1Moe: Family = {
  modelType: "hunyuan_v1_moe",
  layerCount: layerCount(32),
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
      sharedExpert: { intermediateSize: intermediateSize * fields.integerOfLayer("num_shared_expert", 1, layer) },
    };
  },
  tensors: (prefix) =>
    blockTensors(`${prefix}.mlp`, {
      router: { name: `${prefix}.mlp.gate.wg.weight` },
      shared: gatedExpert(`${prefix}.mlp.shared_mlp`),
    }),
};
