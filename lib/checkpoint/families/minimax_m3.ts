import { defaultClamp } from "../../core/layer/activation.js";
import { isSparseDeepseekLayer } from "./deepseek_v2.js";
import { blockTensors, type Family, fusedExpert, gatedExpert, layerCount } from "./family.js";
import { mixtralTensors } from "./mixtral.js";

/** Transformers saves what is published as the first as the second. */
const activations = new Map([
  ["swigluoai", "swiglu_clamped"],
  ["silu", "swiglu_clamped"],
] as const);

/**
 * The text model of MiniMax-M3: MiniMaxM3VLTextConfig and MiniMaxM3VLSparseMoeBlock of Transformers. Sigmoid; experts are
 * chosen by score plus bias, and weighted by their scores, renormalised and scaled; gpt-oss's clamped SwiGLU, also in the
 * shared expert.
 */
export const minimaxM3: Family = {
  modelType: "minimax_m3_vl_text",
  architecture: "MiniMaxM3SparseForCausalLM",
  layerCount: layerCount(60),
  hasExperts: (fields, layer) => isSparseDeepseekLayer(fields, layer, 0),
  config: (fields) => {
    fields.require("scoring_func", "sigmoid");
    const shared = fields.integer("n_shared_experts", 1);
    return {
      hiddenSize: fields.integer("hidden_size", 6144),
      intermediateSize: fields.integer("intermediate_size", 3072),
      numExperts: fields.integer("num_local_experts", 128, { alias: "num_experts" }),
      topK: fields.integer("num_experts_per_tok", 4),
      scoring: "sigmoid",
      normalize: true,
      scale: fields.number("routed_scaling_factor", 2),
      activation: fields.choice("hidden_act", "swigluoai", activations),
      clamp: {
        alpha: fields.number("swiglu_alpha", defaultClamp.alpha),
        limit: fields.number("swiglu_limit", defaultClamp.limit),
        offset: defaultClamp.offset,
      },
      sharedExpert: { intermediateSize: shared * fields.integer("shared_intermediate_size", 3072) },
    };
  },
  tensors: (prefix, fields) => {
    const biased = fields.boolean("use_routing_bias", true);
    const bias = (owner: string) => (biased ? { selectionBias: { name: `${owner}.e_score_correction_bias` } } : {});
    const [own, transformers] = [`${prefix}.block_sparse_moe`, `${prefix}.mlp`];
    const linear = (name: string) => ({ name: `${transformers}.shared_experts.${name}.weight` });
    return [
      ...mixtralTensors(own).map((tensors) => ({
        ...tensors,
        ...bias(own),
        shared: gatedExpert(`${own}.shared_experts`),
      })),
      ...blockTensors(transformers, {
        ...bias(`${transformers}.gate`),
        shared: fusedExpert(linear("gate_up_proj"), linear("down_proj")),
      }),
    ];
  },
};
