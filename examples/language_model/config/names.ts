import type { Family } from "./config.js";

/** How the files name tensors, without ".weight" and ".bias" at the end. */
export interface TensorNames {
  readonly table: string;
  readonly finalNorm: string;
  readonly head: string;
  block(layer: number): BlockNames;
}

export interface BlockNames {
  readonly attentionNorm: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly output: string;
  readonly queryNorm: string;
  readonly keyNorm: string;
  /** With ".weight", if the files have that. */
  readonly sinks: string;
  readonly latent: LatentNames;
  readonly expertsNorm: string;
  /** These three are in a layer without experts. */
  readonly gate: string;
  readonly up: string;
  readonly down: string;
}

/** The tensors of multi-head latent attention: to the row of queries, its norm, and from it; the same for keys and values. */
export interface LatentNames {
  readonly queryDown: string;
  readonly queryNorm: string;
  readonly queryUp: string;
  readonly down: string;
  readonly norm: string;
  readonly up: string;
  /** Where files may have stacks with a matrix for each head instead of `up`. Those of keys are transposed. */
  readonly stacks?: { readonly key: string; readonly value: string };
}

/** In the directories of Hugging Face. */
export const directoryNames: TensorNames = {
  table: "model.embed_tokens",
  finalNorm: "model.norm",
  head: "lm_head",
  block(layer) {
    const prefix = `model.layers.${layer}`;
    return {
      attentionNorm: `${prefix}.input_layernorm`,
      query: `${prefix}.self_attn.q_proj`,
      key: `${prefix}.self_attn.k_proj`,
      value: `${prefix}.self_attn.v_proj`,
      output: `${prefix}.self_attn.o_proj`,
      queryNorm: `${prefix}.self_attn.q_norm`,
      keyNorm: `${prefix}.self_attn.k_norm`,
      sinks: `${prefix}.self_attn.sinks`,
      latent: {
        queryDown: `${prefix}.self_attn.q_a_proj`,
        queryNorm: `${prefix}.self_attn.q_a_layernorm`,
        queryUp: `${prefix}.self_attn.q_b_proj`,
        down: `${prefix}.self_attn.kv_a_proj_with_mqa`,
        norm: `${prefix}.self_attn.kv_a_layernorm`,
        up: `${prefix}.self_attn.kv_b_proj`,
      },
      expertsNorm: `${prefix}.post_attention_layernorm`,
      gate: `${prefix}.mlp.gate_proj`,
      up: `${prefix}.mlp.up_proj`,
      down: `${prefix}.mlp.down_proj`,
    };
  },
};

/** Families whose norm of what experts read is called after the attention before it. */
const namesAttention: ReadonlySet<Family> = new Set(["gpt_oss", "glm4_moe"]);

/** In GGUF files. */
export function ggufNames(family: Family): TensorNames {
  return {
    table: "token_embd",
    finalNorm: "output_norm",
    head: "output",
    block(layer) {
      const prefix = `blk.${layer}`;
      return {
        attentionNorm: `${prefix}.attn_norm`,
        query: `${prefix}.attn_q`,
        key: `${prefix}.attn_k`,
        value: `${prefix}.attn_v`,
        output: `${prefix}.attn_output`,
        queryNorm: `${prefix}.attn_q_norm`,
        keyNorm: `${prefix}.attn_k_norm`,
        sinks: `${prefix}.attn_sinks.weight`,
        latent: {
          queryDown: `${prefix}.attn_q_a`,
          queryNorm: `${prefix}.attn_q_a_norm`,
          queryUp: `${prefix}.attn_q_b`,
          down: `${prefix}.attn_kv_a_mqa`,
          norm: `${prefix}.attn_kv_a_norm`,
          up: `${prefix}.attn_kv_b`,
          stacks: { key: `${prefix}.attn_k_b`, value: `${prefix}.attn_v_b` },
        },
        expertsNorm: namesAttention.has(family) ? `${prefix}.post_attention_norm` : `${prefix}.ffn_norm`,
        gate: `${prefix}.ffn_gate`,
        up: `${prefix}.ffn_up`,
        down: `${prefix}.ffn_down`,
      };
    },
  };
}
