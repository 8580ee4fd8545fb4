import { blockTensors, type Family, gatedActivation, layerCount, stackedExperts } from "./family.js";
import { isSparseQwenLayer } from "./qwen2_moe.js";

/** The defaults by which the families of Qwen3-MoE's formula differ. */
interface Defaults {
  readonly layers: number;
  readonly intermediateSize: number;
  readonly numExperts: number;
  readonly topK: number;
  readonly normalize: boolean;
}

/** Qwen3MoeSparseMoeBlock of Transformers: softmax over all experts. */
function qwen3Family(modelType: string, defaults: Defaults): Family {
  return {
    modelType,
    layerCount: layerCount(defaults.layers),
    config: (fields) => ({
      hiddenSize: fields.integer("hidden_size", 2048),
      intermediateSize: fields.integer("moe_intermediate_size", defaults.intermediateSize),
      numExperts: fields.integer("num_experts", defaults.numExperts, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", defaults.topK),
      normalize: fields.boolean("norm_topk_prob", defaults.normalize),
      activation: gatedActivation(fields),
    }),
    hasExperts: isSparseQwenLayer,
    tensors: (prefix) => blockTensors(`${prefix}.mlp`),
  };
}

const sizes = { intermediateSize: 768, numExperts: 128, topK: 8 } as const;

/** Qwen3-MoE: Qwen3MoeConfig. */
export const qwen3Moe = qwen3Family("qwen3_moe", { ...sizes, layers: 24, normalize: false });

/** The text model of Qwen3-Omni's thinker: Qwen3OmniMoeTextConfig. */
export const qwen3OmniMoe = qwen3Family("qwen3_omni_moe_text", { ...sizes, layers: 28, normalize: true });

const vision = { layers: 24, intermediateSize: 1408, numExperts: 60, topK: 4, normalize: true } as const;

/**
 * The text model of Qwen3-VL: Qwen3VLMoeTextConfig, which always normalises. The published files have stacks with inputs
 * first.
 */
export const qwen3VlMoe: Family = {
  ...qwen3Family("qwen3_vl_moe_text", vision),
  tensors: (prefix) => {
    const [single] = blockTensors(`${prefix}.mlp`);
    return [single, { router: single.router, experts: stackedExperts(`${prefix}.mlp.experts`, "in_out") }];
  },
};
