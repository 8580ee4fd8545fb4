import { readFileSync } from "node:fs";
import { join } from "node:path";
import { convertedTensors, floatGguf } from "./gguf_model.js";

const names = {
  "post_attention_layernorm.weight": "post_attention_norm.weight",
  "self_attn.q_norm.weight": "attn_q_norm.weight",
  "self_attn.k_norm.weight": "attn_k_norm.weight",
};

/**
 * A directory of GLM-4.5 as the GGUF file that llama.cpp's convert_hf_to_gguf.py (Glm4MoeModel) makes of it, in float32, with a
 * layer after the others that predicts further tokens, of which there is one norm.
 */
export async function glmGguf(directory: string): Promise<Buffer> {
  const config = JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
  const next = {
    name: `blk.${config.num_hidden_layers}.nextn.enorm.weight`,
    shape: [config.hidden_size],
    values: new Float32Array(config.hidden_size),
  };
  const keys = {
    vocab_size: config.vocab_size,
    context_length: config.max_position_embeddings,
    embedding_length: config.hidden_size,
    block_count: config.num_hidden_layers + 1,
    nextn_predict_layers: 1,
    feed_forward_length: config.intermediate_size,
    leading_dense_block_count: config.first_k_dense_replace,
    "attention.head_count": config.num_attention_heads,
    "attention.head_count_kv": config.num_key_value_heads,
    "attention.key_length": config.head_dim,
    "attention.value_length": config.head_dim,
    "attention.layer_norm_rms_epsilon": { type: "f32", value: config.rms_norm_eps },
    "rope.dimension_count": config.head_dim * config.partial_rotary_factor,
    "rope.freq_base": { type: "f32", value: config.rope_theta },
    expert_count: config.n_routed_experts,
    expert_used_count: config.num_experts_per_tok,
    expert_shared_count: config.n_shared_experts,
    expert_feed_forward_length: config.moe_intermediate_size,
    expert_weights_norm: config.norm_topk_prob,
    expert_weights_scale: { type: "f32", value: config.routed_scaling_factor },
    expert_gating_func: 2,
  } as const;
  return floatGguf("glm4moe", keys, [...(await convertedTensors(directory, names)), next]);
}
