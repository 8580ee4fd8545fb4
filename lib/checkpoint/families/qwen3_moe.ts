import { blockTensors, type Family, stackedExperts } from "./family.js";
import { qwenFamily } from "./qwen2_moe.js";

// Qwen3MoeSparseMoeBlock of Transformers.

const sizes = { intermediateSize: 768, numExperts: 128, topK: 8 } as const;

/** Qwen3-MoE: Qwen3MoeConfig. */
export const qwen3Moe = qwenFamily("qwen3_moe", { ...sizes, layers: 24, normalize: false });

/** The text model of Qwen3-Omni's thinker: Qwen3OmniMoeTextConfig. */
export const qwen3OmniMoe = qwenFamily("qwen3_omni_moe_text", { ...sizes, layers: 28, normalize: true });

/** Mellum 2: MellumConfig. */
export const mellum = qwenFamily("mellum", {
  layers: 28,
  hiddenSize: 2304,
  intermediateSize: 896,
  numExperts: 64,
  topK: 8,
  normalize: true,
});

const vision = { layers: 24, intermediateSize: 1408, numExperts: 60, topK: 4, normalize: true } as const;

/**
 * The text model of Qwen3-VL: Qwen3VLMoeTextConfig, which always normalises. The published files have stacks with inputs
 * first.
 */
export const qwen3VlMoe: Family = {
  ...qwenFamily("qwen3_vl_moe_text", vision),
  tensors: (prefix) => {
    const [single] = blockTensors(`${prefix}.mlp`);
    return [single, { router: single.router, experts: stackedExperts(`${prefix}.mlp.experts`, "in_out") }];
  },
};
