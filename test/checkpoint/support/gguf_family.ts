import type { LayerTensors, NamedWeight } from "../../../lib/checkpoint/locate/locate_layer.js";
import { mapWeights, nameOf, piecesOf } from "../../../lib/checkpoint/locate/locate_layer.js";
import { Model } from "../../../lib/checkpoint/model.js";
import { ShardedCheckpoint } from "../../../lib/checkpoint/safetensors/index.js";
import { fromBF16, fromF16 } from "../../../lib/core/tensors/dtype.js";
import type { GgufInput, MetadataValue, TensorInput } from "../../support/gguf.js";
import { familyModelPath } from "./family_model.js";

// The golden models of the families as GGUF files: names and metadata as convert_hf_to_gguf.py of llama.cpp writes them.

type Config = Readonly<Record<string, number | boolean | Readonly<Record<string, number>>>>;
type Keys = Readonly<Record<string, MetadataValue | undefined>>;

const f32 = (value: number) => ({ type: "f32", value }) as const;
const number = (config: Config, name: string) => config[name] as number;

/** The same for every layer. */
const limits = (config: Config): MetadataValue =>
  Array.from({ length: number(config, "num_hidden_layers") }, () => number(config, "swiglu_limit"));
const deepseek = (config: Config, gating: number | undefined): Keys => ({
  leading_dense_block_count: number(config, "first_k_dense_replace"),
  feed_forward_length: number(config, "intermediate_size"),
  expert_feed_forward_length: number(config, "moe_intermediate_size"),
  expert_count: number(config, "n_routed_experts"),
  expert_shared_count: number(config, "n_shared_experts"),
  expert_group_count: number(config, "n_group"),
  expert_group_used_count: number(config, "topk_group"),
  expert_weights_scale: f32(number(config, "routed_scaling_factor")),
  expert_weights_norm: config.norm_topk_prob as boolean,
  expert_gating_func: gating,
});
const deepseek4 = (config: Config): Keys => ({
  expert_feed_forward_length: number(config, "moe_intermediate_size"),
  expert_count: number(config, "n_routed_experts"),
  expert_shared_count: number(config, "n_shared_experts"),
  expert_weights_scale: f32(number(config, "routed_scaling_factor")),
  expert_weights_norm: true,
  expert_gating_func: 4,
  hash_layer_count: number(config, "num_hash_layers"),
  swiglu_clamp_exp: limits(config),
});
const dense = (config: Config, count = "num_local_experts"): Keys => ({
  feed_forward_length: number(config, "intermediate_size"),
  expert_count: number(config, count),
});
const qwen = (config: Config): Keys => ({
  ...dense(config, "num_experts"),
  expert_feed_forward_length: number(config, "moe_intermediate_size"),
});

const qwenWithShared = (config: Config): Keys => ({
  ...qwen(config),
  expert_shared_feed_forward_length: number(config, "shared_expert_intermediate_size"),
});
const bailing = (config: Config): Keys => ({
  ...qwen(config),
  leading_dense_block_count: number(config, "first_k_dense_replace"),
  expert_shared_count: number(config, "num_shared_experts"),
  expert_weights_norm: config.norm_topk_prob as boolean,
});
const granite = (config: Config): Keys => ({
  ...dense(config),
  expert_shared_feed_forward_length: number(config, "shared_intermediate_size"),
});

const limited = (config: Config): Keys => ({
  ...deepseek(config, 2),
  swiglu_clamp_exp: limits(config),
});
const kimi = (config: Config): Keys => ({
  ...qwen(config),
  leading_dense_block_count: number(config, "first_k_dense_replace"),
  expert_used_count: number(config, "num_experts_per_token"),
  expert_shared_count: number(config, "num_shared_experts"),
  expert_weights_scale: f32(number(config, "routed_scaling_factor")),
  expert_weights_norm: true,
  expert_gating_func: 2,
  "activation.situ_beta": f32(number(config, "activation_situ_beta")),
  "activation.situ_linear_beta": f32(number(config, "activation_situ_linear_beta")),
});

const smallthinker = (config: Config): Keys => ({
  expert_count: number(config, "moe_num_primary_experts"),
  expert_used_count: number(config, "moe_num_active_primary_experts"),
  expert_feed_forward_length: number(config, "moe_ffn_hidden_size"),
  feed_forward_length: number(config, "moe_ffn_hidden_size"),
  expert_gating_func: config.moe_primary_router_apply_softmax ? 1 : 2,
});

const nemotron = (config: Config): Keys => ({
  expert_count: number(config, "n_routed_experts"),
  expert_feed_forward_length: number(config, "moe_intermediate_size"),
  expert_shared_feed_forward_length: number(config, "moe_shared_expert_intermediate_size"),
  expert_shared_count: number(config, "n_shared_experts"),
  expert_group_count: number(config, "n_group"),
  expert_weights_scale: f32(number(config, "routed_scaling_factor")),
  expert_weights_norm: config.norm_topk_prob as boolean,
});

/** By golden model: the architecture, its keys beside those that all have, and names that other architectures do not use. */
export const ggufFamilies: Readonly<
  Record<string, readonly [string, (config: Config) => Keys, Readonly<Record<string, string>>?]>
> = {
  mixtral: ["llama", (config) => dense(config)],
  qwen2_moe: ["qwen2moe", qwenWithShared],
  qwen3_moe: ["qwen3moe", qwen],
  olmoe: ["olmoe", (config) => dense(config, "num_experts")],
  deepseek_v2_greedy: ["deepseek2", (config) => deepseek(config, undefined)],
  deepseek_v2_groups: ["deepseek2", (config) => deepseek(config, 1)],
  deepseek_v3: ["deepseek2", (config) => deepseek(config, 2)],
  kimi_k2: ["deepseek2", (config) => deepseek(config, 2)],
  glm4_moe: ["glm4moe", (config) => deepseek(config, 2)],
  gpt_oss: [
    "gpt-oss",
    (config) => ({ ...dense(config), expert_feed_forward_length: number(config, "intermediate_size") }),
  ],
  llama4_scout: [
    "llama4",
    (config) => ({
      ...dense(config),
      feed_forward_length: number(config, "intermediate_size_mlp"),
      expert_feed_forward_length: number(config, "intermediate_size"),
      interleave_moe_layer_step: number(config, "interleave_moe_layer_step"),
    }),
  ],
  phimoe: ["phimoe", (config) => dense(config)],
  dbrx: [
    "dbrx",
    ({ ffn_config }) => {
      const ffn = ffn_config as Readonly<Record<string, number>>;
      return {
        feed_forward_length: ffn.ffn_hidden_size,
        expert_count: ffn.moe_num_experts,
        expert_used_count: ffn.moe_top_k,
      };
    },
  ],
  jamba: ["jamba", (config) => dense(config, "num_experts")],
  granitemoe: ["granitemoe", (config) => dense(config)],
  ernie4_5_moe: [
    "ernie4_5-moe",
    (config) => ({
      ...dense(config, "moe_num_experts"),
      expert_used_count: number(config, "moe_k"),
      expert_feed_forward_length: number(config, "moe_intermediate_size"),
      expert_shared_count: number(config, "moe_num_shared_experts"),
      leading_dense_block_count: number(config, "moe_layer_start_index"),
    }),
  ],
  deepseek_v4: ["deepseek4", deepseek4],
  deepseek_v4_hash: ["deepseek4", deepseek4],
  deepseek_v41: ["deepseek41", deepseek4],
  grove_moe: [
    "grovemoe",
    (config) => ({
      ...qwen(config),
      expert_chunk_feed_forward_length: 128,
      experts_per_group: 2,
      expert_group_scale: f32(0.05),
    }),
  ],
  inkling: [
    "inkling",
    (config) => ({
      expert_feed_forward_length: number(config, "intermediate_size"),
      expert_count: number(config, "n_routed_experts"),
      expert_used_count: number(config, "num_experts_per_tok"),
      expert_shared_count: number(config, "n_shared_experts"),
      expert_weights_scale: f32(number(config, "route_scale")),
      expert_gating_func: 2,
    }),
    { expertScale: "ffn_gscale.weight" },
  ],
  gemma4: [
    "gemma4",
    (config) => ({
      ...qwen(config),
      "attention.layer_norm_rms_epsilon": f32(number(config, "rms_norm_eps")),
    }),
  ],
  qwen3_next: ["qwen3next", qwenWithShared],
  qwen3_5_moe: ["qwen35moe", qwenWithShared],
  qwen3_vl_moe: ["qwen3vlmoe", qwen],
  // Its files have no expert_gating_func.
  glm4_moe_lite: ["deepseek2", (config) => deepseek(config, undefined)],
  glm_moe_dsa: ["glm-dsa", (config) => deepseek(config, 2)],
  dots1: ["dots1", (config) => deepseek(config, 2)],
  bailing_moe: ["bailingmoe", (config) => bailing(config)],
  bailing_moe_v2: [
    "bailingmoe2",
    (config) => ({
      ...bailing(config),
      expert_shared_feed_forward_length: number(config, "moe_intermediate_size"),
      expert_gating_func: 2,
      expert_group_count: number(config, "n_group"),
      expert_group_used_count: number(config, "topk_group"),
      expert_weights_scale: f32(number(config, "routed_scaling_factor")),
    }),
  ],
  minimax_m2: [
    "minimax-m2",
    (config) => ({
      ...dense(config),
      expert_feed_forward_length: number(config, "intermediate_size"),
      expert_gating_func: 2,
    }),
  ],
  lfm2_moe: [
    "lfm2moe",
    (config) => ({
      ...qwen(config),
      leading_dense_block_count: number(config, "num_dense_layers"),
      expert_gating_func: 2,
    }),
  ],
  granitemoeshared: ["granitemoe", granite],
  granitemoehybrid: ["granitehybrid", granite],
  nemotron_h: ["nemotron_h_moe", nemotron],
  nemotron_h_latent: [
    "nemotron_h_moe",
    (config) => ({ ...nemotron(config), moe_latent_size: number(config, "moe_latent_size") }),
  ],
  hy_v4: ["hy_v4", limited],
  k2_horizon: [
    "k2-horizon",
    (config) => ({
      ...qwen(config),
      leading_dense_block_count: 1,
      moe_every_n_layers: 1,
      expert_shared_count: number(config, "num_shared_experts"),
      expert_shared_feed_forward_length: number(config, "num_shared_experts") * number(config, "moe_intermediate_size"),
      expert_weights_norm: config.norm_topk_prob as boolean,
      expert_weights_scale: f32(number(config, "router_scaling_factor")),
      expert_gating_func: 2,
    }),
  ],
  glm5_next: ["glm5next", limited],
  gigachat3_5: [
    "gigachat35",
    (config) => ({
      ...limited(config),
      swiglu_clamp_shexp: limits(config),
      expert_shared_feed_forward_length: number(config, "n_shared_experts") * number(config, "moe_intermediate_size"),
      ...{ expert_gating_func: undefined, expert_group_count: undefined, expert_group_used_count: undefined },
    }),
  ],
  kimi_linear_situ: ["kimi-k3", kimi],
  kimi_linear_latent: [
    "kimi-k3",
    (config) => ({
      ...kimi(config),
      expert_latent_length: number(config, "routed_expert_hidden_size"),
      "attention.layer_norm_rms_epsilon": f32(number(config, "rms_norm_eps")),
    }),
    { latentDown: "ffn_routed_down.weight", latentUp: "ffn_routed_up.weight" },
  ],
  cohere2_moe_average: [
    "cohere2moe",
    (config) => ({
      ...dense(config, "num_experts"),
      leading_dense_block_count: 0,
      expert_feed_forward_length: number(config, "intermediate_size"),
      expert_weights_norm: true,
      expert_gating_func: 2,
      expert_shared_count: number(config, "num_shared_experts"),
      expert_shared_feed_forward_length: number(config, "num_shared_experts") * number(config, "intermediate_size"),
    }),
  ],
  smallthinker: ["smallthinker", smallthinker],
  smallthinker_softmax: ["smallthinker", smallthinker],
  longcat_flash: [
    "longcat-flash-ngram",
    (config) => ({
      expert_feed_forward_length: number(config, "expert_ffn_hidden_size"),
      expert_count: number(config, "n_routed_experts"),
      expert_shared_count: 1,
      expert_zero_count: number(config, "zero_expert_num"),
      expert_weights_scale: f32(number(config, "routed_scaling_factor")),
    }),
  ],
  hunyuan_v1_moe: [
    "hunyuan-moe",
    (config) => ({
      ...dense(config, "num_experts"),
      expert_used_count: 4,
      expert_feed_forward_length: number(config, "intermediate_size"),
      expert_shared_feed_forward_length: number(config, "intermediate_size"),
      expert_shared_count: 1,
    }),
  ],
};

/** A matrix or vector as its rows: [N, K] or [1, N]. */
export interface Floats {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** The names in GGUF files of a layer's weights, by role. */
const roleNames: Readonly<Record<string, string>> = {
  router: "ffn_gate_inp.weight",
  routerBias: "ffn_gate_inp.bias",
  selectionBias: "exp_probs_b.bias",
  sharedGate: "ffn_gate_inp_shexp.weight",
  routerNormWeight: "ffn_gate_inp.scale",
  expertScale: "ffn_down_exps.scale",
  latentDown: "ffn_latent_down.weight",
  latentUp: "ffn_latent_up.weight",
  latentNormWeight: "ffn_routed_norm.weight",
  expertTable: "ffn_gate_tid2eid.weight",
  "experts.gate": "ffn_gate_exps.weight",
  "experts.up": "ffn_up_exps.weight",
  "experts.down": "ffn_down_exps.weight",
  "experts.gateBias": "ffn_gate_exps.bias",
  "experts.upBias": "ffn_up_exps.bias",
  "experts.downBias": "ffn_down_exps.bias",
  "joined.gate": "ffn_gate_chexps.weight",
  "joined.up": "ffn_up_chexps.weight",
  "joined.down": "ffn_down_chexps.weight",
  "last.gate": "ffn_gate_shexp.weight",
  "last.up": "ffn_up_shexp.weight",
  "last.down": "ffn_down_shexp.weight",
  "shared.gate": "ffn_gate_shexp.weight",
  "shared.up": "ffn_up_shexp.weight",
  "shared.down": "ffn_down_shexp.weight",
};

/** A golden model's layer as a GGUF file in float32, under the usual architecture or another. */
export async function familyGguf(
  name: string,
  layer: number,
  otherArchitecture?: string,
): Promise<GgufInput & { tensors: TensorInput[] }> {
  const path = familyModelPath(name);
  const model = await Model.read(path);
  await using checkpoint = await ShardedCheckpoint.open(path);
  const [usual, keys, names] = ggufFamilies[name] as (typeof ggufFamilies)[string];
  const architecture = otherArchitecture ?? usual;
  const config = model.config(layer);
  const all: Keys = {
    block_count: model.layerCount,
    embedding_length: config.hiddenSize,
    expert_used_count: config.topK,
    ...keys(model.fields.all as Config),
  };
  const given = Object.entries(all).filter(([, value]) => value !== undefined) as [string, MetadataValue][];
  const metadata = Object.fromEntries(given.map(([key, value]) => [`${architecture}.${key}`, value]));
  const tensors: LayerTensors = model.tensors(layer, (tensor) => checkpoint.has(tensor));
  const roles = new Map<string, Floats[]>();
  const integers = new Set<string>();
  await mapWeights({ config, tensors }, async (wanted) => {
    for (const [number, piece] of piecesOf(wanted).entries()) {
      const { weight, shape, expert, index, count, limit } = piece;
      // What all tokens have, and what experts share, have tensors of their own.
      const set = number > 0 ? "joined" : expert !== index ? "last" : "experts";
      const role = piece.role.replace(/^experts/, set);
      if (limit !== undefined) integers.add(role);
      const list = roles.get(role) ?? [];
      roles.set(role, list);
      list[index] ??= await readWeight(checkpoint, weight, shape, index, count);
    }
  });
  return {
    metadata: { "general.architecture": architecture, ...metadata },
    tensors: Array.from(roles, ([role, list]): TensorInput => {
      const values = Float32Array.from(list.flatMap((one) => [...one.values]));
      const stacked = /^(experts|last|joined)\./.test(role);
      const shape = [...(stacked ? [list.length] : []), ...(list[0] as Floats).shape];
      const name = `blk.${layer}.${names?.[role] ?? roleNames[role]}`;
      if (integers.has(role)) return { name, type: "I32", shape, data: new Uint8Array(Int32Array.from(values).buffer) };
      return { name, type: "F32", shape, data: new Uint8Array(values.buffer) };
    }),
  };
}

/** Reads a weight in any layout, value by value. */
async function readWeight(
  checkpoint: ShardedCheckpoint,
  { name, stacked, orient, part }: NamedWeight,
  shape: readonly number[],
  expert: number,
  experts: number,
): Promise<Floats> {
  const file = await checkpoint.fileOf(nameOf({ name }, expert));
  const { data, dtype } = await file.read(nameOf({ name }, expert));
  const convert = dtype === "BF16" ? fromBF16 : dtype === "F16" ? fromF16 : Number;
  const all = Array.from(data as ArrayLike<number>, convert);
  const own =
    stacked === undefined ? all : all.slice((expert * all.length) / experts, ((expert + 1) * all.length) / experts);
  const [rows, columns] = shape.length === 1 ? [shape[0] as number, 1] : (shape as [number, number]);
  const storedRows = part === undefined ? rows : 2 * rows;
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const stored = { first_half: row, second_half: rows + row, even: 2 * row, odd: 2 * row + 1 }[part ?? "first_half"];
    for (let column = 0; column < columns; column++) {
      const at = orient === "in_out" ? column * storedRows + stored : stored * columns + column;
      values[row * columns + column] = own[at] as number;
    }
  }
  return { shape, values };
}
