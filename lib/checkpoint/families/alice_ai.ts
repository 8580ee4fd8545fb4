import type { Family } from "./family.js";
import { qwenFamily } from "./qwen2_moe.js";

const qwen = qwenFamily("alice_ai", {
  layers: 48,
  intermediateSize: 512,
  numExperts: 512,
  topK: 10,
  normalize: true,
  sharedWidth: 512,
});

/**
 * Alice AI: AliceAIConfig of vLLM, and Qwen3NextSparseMoeBlock as it computes with that. Sigmoid instead of Qwen3-Next's softmax;
 * experts are chosen by score plus bias.
 */
export const aliceAi: Family = {
  ...qwen,
  config: (fields, layer) => {
    fields.require("router_score_function", "sigmoid");
    return { ...qwen.config(fields, layer), scoring: "sigmoid" };
  },
  tensors: (prefix, fields, layer) => {
    const own = qwen.tensors(prefix, fields, layer);
    if (!fields.boolean("router_bias_correction", true)) return own;
    const selectionBias = { name: `${prefix}.mlp.gate.e_score_correction_bias` };
    return own.map((tensors) => ({ ...tensors, selectionBias }));
  },
};
