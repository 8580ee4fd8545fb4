// Random models of the families that are written as GGUF files.
import { type RandomModel, writeRandomModel } from "./random_model.js";

export const [H, I, E, heads, kvHeads, vocabulary, layers] = [256, 256, 3, 4, 2, 40, 2];
export const headSize = H / heads;

export const common = {
  hidden_size: H,
  intermediate_size: I,
  num_hidden_layers: layers,
  num_experts_per_tok: 2,
  num_attention_heads: heads,
  num_key_value_heads: kvHeads,
  vocab_size: vocabulary,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: "silu",
};
export const attention = {
  "input_layernorm.weight": [H],
  "post_attention_layernorm.weight": [H],
  "self_attn.q_proj.weight": [heads * headSize, H],
  "self_attn.k_proj.weight": [kvHeads * headSize, H],
  "self_attn.v_proj.weight": [kvHeads * headSize, H],
  "self_attn.o_proj.weight": [H, heads * headSize],
};
const biases = {
  "self_attn.q_proj.bias": [heads * headSize],
  "self_attn.k_proj.bias": [kvHeads * headSize],
  "self_attn.v_proj.bias": [kvHeads * headSize],
};
const headNorms = { "self_attn.q_norm.weight": [headSize], "self_attn.k_norm.weight": [headSize] };
const whole = {
  "model.embed_tokens.weight": [vocabulary, H],
  "model.norm.weight": [H],
  "lm_head.weight": [vocabulary, H],
};

/** A model, and what its GGUF file says. */
export interface Written extends RandomModel {
  readonly config: object;
  readonly architecture: string;
  /** Metadata besides those that all have. */
  readonly keys: Readonly<Record<string, unknown>>;
}

export const families = {
  mixtral: {
    config: { ...common, model_type: "mixtral", num_local_experts: E },
    layer: attention,
    architecture: "llama",
    keys: { "rope.dimension_count": headSize },
  },
  qwen2_moe: {
    config: {
      ...common,
      model_type: "qwen2_moe",
      num_experts: E,
      moe_intermediate_size: I,
      shared_expert_intermediate_size: 2 * I,
    },
    layer: { ...attention, ...biases },
    architecture: "qwen2moe",
    keys: { expert_feed_forward_length: I, expert_shared_feed_forward_length: 2 * I },
  },
  qwen3_moe: {
    config: {
      ...common,
      model_type: "qwen3_moe",
      num_experts: E,
      moe_intermediate_size: I,
      norm_topk_prob: true,
      head_dim: headSize,
      rope_theta: undefined,
      rope_parameters: { rope_theta: 10000, rope_type: "default" },
    },
    storage: 1,
    layer: { ...attention, ...headNorms },
    architecture: "qwen3moe",
    keys: {
      expert_feed_forward_length: I,
      "attention.key_length": headSize,
      "attention.value_length": headSize,
    },
  },
  olmoe: {
    config: { ...common, num_key_value_heads: heads, model_type: "olmoe", num_experts: E, clip_qkv: null },
    layer: {
      ...attention,
      "self_attn.k_proj.weight": [H, H],
      "self_attn.v_proj.weight": [H, H],
      "self_attn.q_norm.weight": [H],
      "self_attn.k_norm.weight": [H],
    },
    architecture: "olmoe",
    keys: { "attention.head_count_kv": heads },
  },
  granitemoe: {
    config: {
      ...common,
      model_type: "granitemoe",
      num_local_experts: E,
      attention_multiplier: 0.015625,
      embedding_multiplier: 12,
      residual_multiplier: 0.22,
      logits_scaling: 6,
      tie_word_embeddings: true,
    },
    layer: attention,
    architecture: "granitemoe",
    keys: {
      "rope.dimension_count": headSize,
      "attention.scale": 0.015625,
      embedding_scale: 12,
      residual_scale: Math.fround(0.22),
      logit_scale: 6,
    },
  },
  gpt_oss: {
    config: {
      ...common,
      model_type: "gpt_oss",
      num_local_experts: E,
      sliding_window: 128,
      rope_scaling: {
        rope_type: "yarn",
        factor: 32,
        original_max_position_embeddings: 128,
        beta_fast: 32,
        beta_slow: 1,
        truncate: false,
      },
    },
    layer: { ...attention, ...biases, "self_attn.o_proj.bias": [H], "self_attn.sinks": [heads] },
    architecture: "gpt-oss",
    keys: {
      expert_feed_forward_length: I,
      "attention.sliding_window": 128,
      "rope.scaling.type": "yarn",
      "rope.scaling.factor": 32,
      "rope.scaling.original_context_length": 128,
      "rope.scaling.yarn_beta_fast": 32,
      "rope.scaling.yarn_beta_slow": 1,
    },
  },
} satisfies Record<string, Written>;

/** Writes a model to a new folder, with some changes of its configuration and tensors. */
export async function writeModel(
  path: string,
  written: Written,
  changes: object = {},
  more: RandomModel = {},
): Promise<void> {
  const { config, architecture: _, keys: __, ...model } = written;
  const { "lm_head.weight": head, ...others } = whole;
  const tied = "tie_word_embeddings" in config;
  await writeRandomModel(
    path,
    { ...config, ...changes },
    { ...model, model: { ...others, ...(!tied && { "lm_head.weight": head }) }, ...more },
  );
}
