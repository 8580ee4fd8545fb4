import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decodeHalves } from "moe-kernels";
import { SafetensorsFile } from "moe-kernels/safetensors";
import { rawGguf, type TensorInput } from "../support/gguf.js";

/** What llama.cpp calls the tensors of a layer. */
const names: Readonly<Record<string, string>> = {
  "input_layernorm.weight": "attn_norm.weight",
  "post_attention_layernorm.weight": "post_attention_norm.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "self_attn.q_norm.weight": "attn_q_norm.weight",
  "self_attn.k_norm.weight": "attn_k_norm.weight",
  "mlp.gate.weight": "ffn_gate_inp.weight",
  "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
};

function nameOf(name: string): string {
  const others: Readonly<Record<string, string>> = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
  };
  const [, layer, rest = ""] = /^model\.layers\.(\d+)\.(.*)$/.exec(name) ?? [];
  if (layer === undefined) return others[name] as string;
  const own = rest
    .replace(/^self_attn\.([qkv])_proj/, "attn_$1")
    .replace(/^mlp\.experts\.(\w+)_proj/, "ffn_$1_exps")
    .replace(/^mlp\.shared_experts\.(\w+)_proj/, "ffn_$1_shexp")
    .replace(/^mlp\.(\w+)_proj/, "ffn_$1");
  return `blk.${layer}.${names[rest] ?? own}`;
}

/**
 * A directory of GLM-4.5 as the GGUF file that llama.cpp's convert_hf_to_gguf.py (Glm4MoeModel) makes of it, in float32, with a
 * layer after the others that predicts further tokens, of which there is one norm.
 */
export async function glmGguf(directory: string): Promise<Buffer> {
  const config = JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
  await using file = await SafetensorsFile.open(join(directory, "model.safetensors"));
  const found = new Map<string, { shape: readonly number[]; parts: Float32Array[] }>();
  for (const [name, { shape }] of file.tensors) {
    // Of every expert the same name, in the order of their numbers.
    const stacked = name.replace(/(mlp\.experts)\.\d+\./, "$1.");
    const values = decodeHalves((await file.read(name)).data as Uint16Array, "bf16");
    const parts = [...(found.get(stacked)?.parts ?? []), values];
    found.set(stacked, { shape: stacked === name ? shape : [parts.length, ...shape], parts });
  }
  const tensors = [...found].map(([name, { shape, parts }]): TensorInput => {
    return {
      name: nameOf(name),
      type: "F32",
      shape,
      data: Buffer.concat(parts.map((part) => Buffer.from(part.buffer))),
    };
  });
  tensors.push({
    name: `blk.${config.num_hidden_layers}.nextn.enorm.weight`,
    type: "F32",
    shape: [config.hidden_size],
  });
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
  const own = Object.entries(keys).map(([key, value]) => [`glm4moe.${key}`, value]);
  return rawGguf({ metadata: { "general.architecture": "glm4moe", ...Object.fromEntries(own) }, tensors });
}
