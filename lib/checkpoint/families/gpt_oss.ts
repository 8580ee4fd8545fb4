import { defaultClamp } from "../../core/backend.js";
import { type Family, layerCount } from "./family.js";

/**
 * gpt-oss: GptOssConfig, GptOssTopKRouter and GptOssExperts of Transformers. Biased router, softmax over the chosen
 * experts; biased experts with a clamped SwiGLU, stacked as [in, out] with alternating gate and up columns.
 */
export const gptOss: Family = {
  modelType: "gpt_oss",
  layerCount: layerCount(36),
  config: (fields) => ({
    hiddenSize: fields.integer("hidden_size", 2880),
    intermediateSize: fields.integer("intermediate_size", 2880),
    numExperts: fields.integer("num_local_experts", 128, { alias: "num_experts" }),
    topK: fields.integer("num_experts_per_tok", 4, { alias: "experts_per_token" }),
    scoring: "softmax_selected",
    activation: "swiglu_clamped",
    clamp: { ...defaultClamp, limit: fields.number("swiglu_limit", defaultClamp.limit) },
  }),
  tensors: (prefix) => {
    const experts = `${prefix}.mlp.experts`;
    const gateUp = { name: `${experts}.gate_up_proj`, stacked: "dim0", orient: "in_out" } as const;
    const gateUpBias = { name: `${experts}.gate_up_proj_bias`, stacked: "dim0" } as const;
    return [
      {
        router: { name: `${prefix}.mlp.router.weight` },
        routerBias: { name: `${prefix}.mlp.router.bias` },
        experts: {
          gate: { ...gateUp, part: "even" },
          up: { ...gateUp, part: "odd" },
          down: { name: `${experts}.down_proj`, stacked: "dim0", orient: "in_out" },
          gateBias: { ...gateUpBias, part: "even" },
          upBias: { ...gateUpBias, part: "odd" },
          downBias: { name: `${experts}.down_proj_bias`, stacked: "dim0" },
        },
      },
    ];
  },
};
