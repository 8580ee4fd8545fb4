import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { checkConfig, families, type ModelConfig, type Rotary } from "./config.js";
import { directoryNames } from "./names.js";

// biome-ignore lint/suspicious/noExplicitAny: a parsed JSON file.
type Json = any;

/** Reads the config.json of a model's directory. @throws RangeError for what this example does not compute. */
export async function readDirectoryConfig(directory: string): Promise<ModelConfig> {
  const path = join(directory, "config.json");
  const json: Json = JSON.parse(await readFile(path, "utf8"));
  const family = families.find((each) => each === json.model_type);
  if (family === undefined) {
    throw new RangeError(`${path}: expected model_type ${families.join(", ")}, got ${JSON.stringify(json.model_type)}`);
  }
  if (json.clip_qkv) throw new RangeError(`${path}: clip_qkv: expected null, got ${json.clip_qkv}`);
  const { num_hidden_layers: layers, hidden_size: hiddenSize, num_attention_heads: heads } = json;
  const config = {
    family,
    layers,
    hiddenSize,
    heads,
    keyValueHeads: json.num_key_value_heads ?? heads,
    headSize: json.head_dim ?? hiddenSize / heads,
    epsilon: json.rms_norm_eps,
    vocabulary: json.vocab_size,
    rotary: rotaryOf(json, path),
    windows: Array.from({ length: layers }, (_, layer) => (slides(json, layer, path) ? json.sliding_window : Infinity)),
    names: directoryNames,
  };
  return checkConfig(config, path);
}

/** Transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`. */
function rotaryOf(json: Json, path: string): Rotary {
  const parameters = json.rope_parameters ?? { rope_theta: json.rope_theta, ...json.rope_scaling };
  const theta = parameters.rope_theta ?? json.rope_theta ?? 10_000;
  const type = parameters.rope_type ?? parameters.type ?? "default";
  if (type === "default") return { theta, neighbours: false, yarn: undefined };
  if (type !== "yarn") throw new RangeError(`${path}: expected rope_type default or yarn, got ${JSON.stringify(type)}`);
  // What YaRN multiplies heads by follows from the factor here.
  const given = ["attention_factor", "mscale", "mscale_all_dim"].find((field) => parameters[field] != null);
  if (given !== undefined) throw new RangeError(`${path}: expected YaRN without ${given}, got ${parameters[given]}`);
  const yarn = {
    factor: parameters.factor,
    firstContext: parameters.original_max_position_embeddings ?? json.max_position_embeddings,
    fast: parameters.beta_fast ?? 32,
    slow: parameters.beta_slow ?? 1,
    truncate: parameters.truncate ?? true,
  };
  return { theta, neighbours: false, yarn };
}

/** Whether a layer's tokens see a window only. */
function slides(json: Json, layer: number, path: string): boolean {
  const type = json.layer_types?.[layer];
  if (type !== undefined) return type === "sliding_attention";
  if (json.use_sliding_window || json.model_type === "gpt_oss") {
    throw new RangeError(`${path}: expected layer_types, which say what layers have a sliding window, got none`);
  }
  return json.model_type === "mixtral" && Boolean(json.sliding_window);
}
