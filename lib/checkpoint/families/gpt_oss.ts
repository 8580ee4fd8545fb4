import { defaultClamp } from "../../core/layer/activation.js";
import type { Part } from "../../operators/experts/quantized_weight.js";
import type { LayerTensors, NamedWeight } from "../locate/locate_layer.js";
import { type Family, gatedExpert, layerCount } from "./family.js";

interface Defaults {
  readonly layers: number;
  readonly size: number;
}

/** GptOssTopKRouter of Transformers: biased router, softmax over the chosen; biased experts with a clamped SwiGLU. */
function gptOssConfig({ layers, size }: Defaults): Pick<Family, "layerCount" | "config"> {
  const { alpha, limit, offset } = defaultClamp;
  return {
    layerCount: layerCount(layers),
    config: (fields) => ({
      hiddenSize: fields.integer("hidden_size", size),
      intermediateSize: fields.integer("intermediate_size", size),
      numExperts: fields.integer("num_local_experts", 128, { alias: "num_experts" }),
      topK: fields.integer("num_experts_per_tok", 4, { alias: "experts_per_token" }),
      scoring: "softmax_selected",
      activation: "swiglu_clamped",
      clamp: { alpha, limit: fields.number("swiglu_limit", limit), offset },
    }),
  };
}

/**
 * gpt-oss: GptOssConfig and GptOssExperts of Transformers. Experts are stacked as [in, out] with alternating gate and up
 * columns. OpenAI's own files have other names, and no `model_type`; those of Unsloth (bitsandbytes) and of Quark have
 * experts one by one, and those of llm-compressor, GPTQModel and AutoRound each matrix by itself.
 */
export const gptOss: Family = {
  modelType: "gpt_oss",
  recognizes: (fields) => fields.has("experts_per_token") && fields.has("swiglu_limit"),
  ...gptOssConfig({ layers: 36, size: 2880 }),
  tensors: (prefix) => {
    const [, layer] = /(\d+)$/.exec(prefix) ?? [];
    const block = `${prefix}.mlp`;
    const own = `block.${layer}.mlp`;
    const unsloth = [`${block}.experts.gate_up_projs.{e}`, `${block}.experts.down_projs.{e}`] as const;
    const quark = [`${block}.experts.{e}.gate_up_proj`, `${block}.experts.{e}.down_proj`] as const;
    return [
      stackedTensors(`${block}.router`, [`${block}.experts.gate_up_proj`, `${block}.experts.down_proj`], "_bias"),
      stackedTensors(`${own}.gate`, [`${own}.mlp1_weight`, `${own}.mlp2_weight`], ""),
      singleTensors(`${block}.router.linear`, unsloth),
      singleTensors(`${block}.router`, unsloth),
      singleTensors(`${block}.router`, quark),
      {
        router: { name: `${block}.router.weight` },
        routerBias: { name: `${block}.router.bias` },
        experts: gatedExpert(`${block}.experts.{e}`, undefined, true),
      },
    ];
  },
};

/**
 * OpenAI's Privacy Filter: OpenAIPrivacyFilterConfig and OpenAIPrivacyFilterMLP of Transformers. gpt-oss's formula, with gate
 * columns before up columns.
 */
export const openaiPrivacyFilter: Family = {
  modelType: "openai_privacy_filter",
  ...gptOssConfig({ layers: 8, size: 640 }),
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    const stacks = [`${block}.experts.gate_up_proj`, `${block}.experts.down_proj`] as const;
    return [stackedTensors(`${block}.router`, stacks, "_bias", ["first_half", "second_half"])];
  },
};

type Pair = readonly [gateUp: string, down: string];

/** Which outputs of the fused product are those of gate and of up. */
type Parts = readonly [gate: Part, up: Part];
const alternating: Parts = ["even", "odd"];

/** Quantised matrices have suffixes that name codes and scales, and rows that are outputs. */
function stackedTensors(router: string, [gateUp, down]: Pair, bias: string, parts = alternating): LayerTensors {
  const matrix = (name: string) => ({ name, stacked: "dim0", orient: "in_out" }) as const;
  const vector = (name: string) => ({ name: name.replace(/_weight$/, "_bias") + bias, stacked: "dim0" }) as const;
  return tensors(router, matrix(gateUp), matrix(down), vector(gateUp), vector(down), parts);
}

/** A linear layer for each expert. */
function singleTensors(router: string, [gateUp, down]: Pair): LayerTensors {
  const named = (module: string, kind: string) => ({ name: `${module}.${kind}` });
  return tensors(router, named(gateUp, "weight"), named(down, "weight"), named(gateUp, "bias"), named(down, "bias"));
}

function tensors(
  router: string,
  gateUp: NamedWeight,
  down: NamedWeight,
  gateUpBias: NamedWeight,
  downBias: NamedWeight,
  [gate, up] = alternating,
): LayerTensors {
  return {
    router: { name: `${router}.weight` },
    routerBias: { name: `${router}.bias` },
    experts: {
      gate: { ...gateUp, part: gate },
      up: { ...gateUp, part: up },
      down,
      gateBias: { ...gateUpBias, part: gate },
      upBias: { ...gateUpBias, part: up },
      downBias,
    },
  };
}
