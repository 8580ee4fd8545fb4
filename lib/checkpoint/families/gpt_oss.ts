import { defaultClamp } from "../../core/backend.js";
import type { LayerTensors } from "../locate.js";
import { type Family, layerCount } from "./family.js";

/**
 * gpt-oss: GptOssConfig, GptOssTopKRouter and GptOssExperts of Transformers. Biased router, softmax over the chosen
 * experts; biased experts with a clamped SwiGLU, stacked as [in, out] with alternating gate and up columns. OpenAI's own
 * files have other names, and no `model_type`.
 */
export const gptOss: Family = {
  modelType: "gpt_oss",
  recognizes: (fields) => fields.has("experts_per_token") && fields.has("swiglu_limit"),
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
    const [, layer] = /(\d+)$/.exec(prefix) ?? [];
    const block = `${prefix}.mlp`;
    const own = `block.${layer}.mlp`;
    return [
      tensors(`${block}.router`, [`${block}.experts.gate_up_proj`, `${block}.experts.down_proj`], "_bias"),
      tensors(`${own}.gate`, [`${own}.mlp1_weight`, `${own}.mlp2_weight`], ""),
    ];
  },
};

/** Quantised matrices have suffixes that name codes and scales, and rows that are outputs. */
function tensors(router: string, [gateUp, down]: readonly [string, string], bias: string): LayerTensors {
  const matrix = (name: string) => ({ name, stacked: "dim0", orient: "in_out" }) as const;
  const vector = (name: string) => ({ name: name.replace(/_weight$/, "_bias") + bias, stacked: "dim0" }) as const;
  return {
    router: { name: `${router}.weight` },
    routerBias: { name: `${router}.bias` },
    experts: {
      gate: { ...matrix(gateUp), part: "even" },
      up: { ...matrix(gateUp), part: "odd" },
      down: matrix(down),
      gateBias: { ...vector(gateUp), part: "even" },
      upBias: { ...vector(gateUp), part: "odd" },
      downBias: vector(down),
    },
  };
}
