import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseJson } from "../../common/json.js";
import {
  checkConfig,
  dividedStream,
  type Family,
  families,
  type HeadConfig,
  latentEpsilon,
  latentScale,
  type ModelConfig,
  type Rotary,
  type Yarn,
  yarnScale,
} from "./config.js";
import { directoryNames } from "./names.js";

// biome-ignore lint/suspicious/noExplicitAny: a parsed JSON file.
type Json = any;

const latentDefaults = {
  kv_lora_rank: 512,
  q_lora_rank: 1536,
  qk_nope_head_dim: 128,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
};

/** Fields that a config.json may lack, where a family's configuration class has a value of its own for them. */
const defaults: { readonly [F in Family]?: Json } = {
  glm4_moe: { partial_rotary_factor: 0.5 },
  granitemoe: { attention_multiplier: 1 },
  deepseek_v2: latentDefaults,
  deepseek_v3: latentDefaults,
  kimi_k2: latentDefaults,
};

/** Reads the config.json of a model's directory. @throws RangeError for what this example does not compute. */
export async function readDirectoryConfig(directory: string): Promise<ModelConfig> {
  const path = join(directory, "config.json");
  const read: Json = parseJson(await readFile(path, "utf8"), path);
  const family = families.find((each) => each === read.model_type);
  if (family === undefined) {
    throw new RangeError(`${path}: expected model_type ${families.join(", ")}, got ${JSON.stringify(read.model_type)}`);
  }
  const json: Json = { ...defaults[family], ...read };
  if (json.clip_qkv) throw new RangeError(`${path}: clip_qkv: expected null, got ${json.clip_qkv}`);
  const positions = json.position_embedding_type ?? "rope";
  if (positions !== "rope") {
    throw new RangeError(`${path}: position_embedding_type: expected "rope", got ${JSON.stringify(positions)}`);
  }
  const { num_hidden_layers: layers, hidden_size: hiddenSize, num_attention_heads: heads } = json;
  const config = {
    family,
    layers,
    hiddenSize,
    heads,
    ...(json.kv_lora_rank == null ? groupedHeads(json, path) : latentHeads(json, path)),
    ...dividedStream(json.embedding_multiplier ?? 1, json.residual_multiplier ?? 1, json.rms_norm_eps),
    logitScale: 1 / (json.logits_scaling ?? 1),
    vocabulary: json.vocab_size,
    context: json.max_position_embeddings ?? undefined,
    dense: { intermediateSize: json.intermediate_size, activation: json.hidden_act ?? "silu" },
    windows: Array.from({ length: layers }, (_, layer) => (slides(json, layer, path) ? json.sliding_window : Infinity)),
    names: directoryNames,
  };
  return checkConfig(config, path);
}

function groupedHeads(json: Json, path: string): HeadConfig {
  const { num_attention_heads: heads, num_key_value_heads: keyValueHeads = heads } = json;
  const headSize = json.head_dim ?? json.hidden_size / heads;
  const turned = ropeParameters(json).partial_rotary_factor ?? json.partial_rotary_factor ?? 1;
  return {
    keyValueHeads,
    headSize,
    valueSize: headSize,
    attentionScale: json.attention_multiplier ?? headSize ** -0.5,
    rotary: rotaryOf(json, Math.floor(headSize * turned), false, path),
    latent: undefined,
  };
}

function latentHeads(json: Json, path: string): HeadConfig {
  const { kv_lora_rank: rank, qk_rope_head_dim: turnedSize, qk_nope_head_dim: plainSize } = json;
  const { factor, mscale_all_dim: share } = ropeParameters(json);
  return {
    keyValueHeads: 1,
    headSize: rank + turnedSize,
    valueSize: rank,
    attentionScale: latentScale(plainSize + turnedSize, factor, share),
    rotary: rotaryOf(json, turnedSize, json.rope_interleave ?? true, path),
    latent: { queryRank: json.q_lora_rank ?? undefined, plainSize, valueSize: json.v_head_dim, epsilon: latentEpsilon },
  };
}

/** Transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`. */
function ropeParameters(json: Json): Json {
  return json.rope_parameters ?? { rope_theta: json.rope_theta, ...json.rope_scaling };
}

function rotaryOf(json: Json, size: number, neighbours: boolean, path: string): Rotary {
  const parameters = ropeParameters(json);
  const theta = parameters.rope_theta ?? json.rope_theta ?? 10_000;
  const type = parameters.rope_type ?? parameters.type ?? "default";
  if (type !== "default" && type !== "yarn") {
    throw new RangeError(`${path}: expected rope_type default or yarn, got ${JSON.stringify(type)}`);
  }
  const yarn = type === "yarn" ? yarnOf(parameters, json, path) : undefined;
  return { theta, size, neighbours, yarn };
}

function yarnOf(parameters: Json, json: Json, path: string): Yarn {
  const { factor, attention_factor: given, mscale, mscale_all_dim: ofAll } = parameters;
  // Authors' codes differ in what one of them means without the other.
  if (given == null && Boolean(mscale) !== Boolean(ofAll)) {
    const [got, missing] = mscale ? ["mscale", "mscale_all_dim"] : ["mscale_all_dim", "mscale"];
    throw new RangeError(
      `${path}: expected YaRN with both mscale and mscale_all_dim or neither, got ${got} without ${missing}`,
    );
  }
  return {
    factor,
    firstContext: parameters.original_max_position_embeddings ?? json.max_position_embeddings,
    fast: parameters.beta_fast ?? 32,
    slow: parameters.beta_slow ?? 1,
    truncate: parameters.truncate ?? true,
    scale: given ?? yarnScale(factor, mscale || 1) / (ofAll ? yarnScale(factor, ofAll) : 1),
  };
}

/** Whether a layer's tokens see a window only. */
function slides(json: Json, layer: number, path: string): boolean {
  const type = json.layer_types?.[layer];
  if (type !== undefined) return type === "sliding_attention";
  if (json.use_sliding_window || json.model_type === "gpt_oss") {
    throw new RangeError(`${path}: expected layer_types, which say which layers have a sliding window, got none`);
  }
  return json.model_type === "mixtral" && Boolean(json.sliding_window);
}
