import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { MetadataValue } from "../support/gguf.js";
import { convertedTensors, type FloatTensor, floatGguf } from "./gguf_model.js";

const names = {
  "post_attention_layernorm.weight": "ffn_norm.weight",
  "self_attn.q_a_proj.weight": "attn_q_a.weight",
  "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
  "self_attn.q_b_proj.weight": "attn_q_b.weight",
  "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
  "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
  "self_attn.kv_b_proj.weight": "attn_kv_b.weight",
};

/** How a file has the matrices of keys and values: as one, or since 2025 as two stacks with a matrix for each head. */
export type Layout = "one matrix" | "stacks";

/**
 * A directory of DeepSeek-V2, V3 or Kimi K2 as the GGUF file that llama.cpp's convert_hf_to_gguf.py (DeepseekV2Model) makes of
 * it, in float32.
 * @param more metadata, or undefined for what is left out.
 */
export async function deepseekGguf(
  directory: string,
  layout: Layout,
  more: Readonly<Record<string, MetadataValue | undefined>> = {},
): Promise<Buffer> {
  const config = JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
  const { rope_scaling: yarn, kv_lora_rank: rank, qk_nope_head_dim: plain, v_head_dim: value } = config;
  const float = (value: number) => ({ type: "f32", value }) as const;
  const headSize = plain + config.qk_rope_head_dim;
  const sizes =
    layout === "stacks"
      ? {
          "attention.head_count_kv": 1,
          "attention.key_length": rank + config.qk_rope_head_dim,
          "attention.value_length": rank,
          "attention.key_length_mla": headSize,
          "attention.value_length_mla": value,
        }
      : {
          "attention.head_count_kv": config.num_attention_heads,
          "attention.key_length": headSize,
          "attention.value_length": value,
        };
  const keys = {
    vocab_size: config.vocab_size,
    context_length: config.max_position_embeddings,
    embedding_length: config.hidden_size,
    block_count: config.num_hidden_layers,
    feed_forward_length: config.intermediate_size,
    leading_dense_block_count: config.first_k_dense_replace,
    "attention.head_count": config.num_attention_heads,
    ...sizes,
    "attention.q_lora_rank": config.q_lora_rank ?? undefined,
    "attention.kv_lora_rank": rank,
    "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
    "rope.dimension_count": config.qk_rope_head_dim,
    "rope.freq_base": float(config.rope_theta),
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": float(yarn.factor),
    "rope.scaling.original_context_length": yarn.original_max_position_embeddings,
    "rope.scaling.yarn_beta_fast": float(yarn.beta_fast),
    "rope.scaling.yarn_beta_slow": float(yarn.beta_slow),
    "rope.scaling.yarn_log_multiplier": float(0.1 * yarn.mscale_all_dim),
    expert_count: config.n_routed_experts,
    expert_used_count: config.num_experts_per_tok,
    expert_shared_count: config.n_shared_experts,
    expert_feed_forward_length: config.moe_intermediate_size,
    expert_weights_norm: config.norm_topk_prob || undefined,
    expert_weights_scale: float(config.routed_scaling_factor),
    expert_gating_func: config.scoring_func === "sigmoid" ? 2 : 1,
    ...more,
  } as const;
  const tensors = await convertedTensors(directory, names);
  const stacked = tensors.flatMap((tensor) => {
    const isBoth = layout === "stacks" && tensor.name.endsWith("attn_kv_b.weight");
    return isBoth ? stacks(tensor, config.num_attention_heads, plain) : [tensor];
  });
  return floatGguf("deepseek2", keys, stacked);
}

/** The keys' matrices [heads, rank, plain], transposed, and the values' [heads, value, rank]. */
function stacks({ name, shape, values }: FloatTensor, heads: number, plain: number): readonly FloatTensor[] {
  const [rows, rank] = shape as [number, number];
  const each = rows / heads;
  const at = (head: number, row: number, column: number) => values[(head * each + row) * rank + column] as number;
  const stack = (letter: string, [first, second]: readonly [number, number], value: typeof at) => ({
    name: name.replace("kv_b", `${letter}_b`),
    shape: [heads, first, second],
    values: Float32Array.from({ length: heads * first * second }, (_, i) => {
      return value(Math.floor(i / (first * second)), Math.floor(i / second) % first, i % second);
    }),
  });
  return [
    stack("k", [rank, plain], (head, column, row) => at(head, row, column)),
    stack("v", [each - plain, rank], (head, row, column) => at(head, plain + row, column)),
  ];
}
