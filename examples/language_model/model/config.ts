import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** What a model computes besides its experts, as its config.json says. */
export interface ModelConfig {
  readonly family: Family;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  /** Heads of keys and values; each serves `heads / keyValueHeads` heads of queries. */
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** What RMSNorms add to the mean of squares. */
  readonly epsilon: number;
  readonly vocabulary: number;
  /** Rotary positions (RoPE). */
  readonly rotary: Rotary;
  /** How many tokens, itself included, a token of each layer sees; Infinity for all. */
  readonly windows: readonly number[];
}

/** RoPE (arXiv 2104.09864), by YaRN (arXiv 2309.00071) stretched to longer contexts. */
export interface Rotary {
  readonly theta: number;
  readonly yarn: Yarn | undefined;
}

export interface Yarn {
  /** Times as long a context as the model was first trained with. */
  readonly factor: number;
  readonly firstContext: number;
  /** Rotations in the first context from which a pair keeps its frequency, and below which its frequency is divided. */
  readonly fast: number;
  readonly slow: number;
  /** Whether the bounds between pairs are rounded to whole ones. */
  readonly truncate: boolean;
}

const families = ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss"] as const;
export type Family = (typeof families)[number];

/** Reads the config.json of a model's directory. @throws RangeError for what this example does not compute. */
export async function readConfig(directory: string): Promise<ModelConfig> {
  const path = join(directory, "config.json");
  const json = JSON.parse(await readFile(path, "utf8"));
  const family = families.find((each) => each === json.model_type);
  if (family === undefined) {
    throw new RangeError(`${path}: expected model_type ${families.join(", ")}, got ${JSON.stringify(json.model_type)}`);
  }
  const integer = (field: string, otherwise?: number): number => {
    const value = json[field] ?? otherwise;
    if (Number.isSafeInteger(value) && value > 0) return value;
    throw new RangeError(`${path}: ${field}: expected a positive integer, got ${JSON.stringify(value)}`);
  };
  if (json.clip_qkv) throw new RangeError(`${path}: clip_qkv: expected null, got ${json.clip_qkv}`);
  const layers = integer("num_hidden_layers");
  const hiddenSize = integer("hidden_size");
  const heads = integer("num_attention_heads");
  const keyValueHeads = integer("num_key_value_heads", heads);
  if (heads % keyValueHeads !== 0) {
    throw new RangeError(`${path}: expected num_key_value_heads to divide ${heads} heads, got ${keyValueHeads}`);
  }
  return {
    family,
    layers,
    hiddenSize,
    heads,
    keyValueHeads,
    headSize: integer("head_dim", hiddenSize / heads),
    epsilon: json.rms_norm_eps,
    vocabulary: integer("vocab_size"),
    rotary: rotaryOf(json, path),
    windows: Array.from({ length: layers }, (_, layer) =>
      slides(json, layer, path) ? integer("sliding_window") : Number.POSITIVE_INFINITY,
    ),
  };
}

/** Transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`. */
// biome-ignore lint/suspicious/noExplicitAny: a parsed JSON file.
function rotaryOf(json: any, path: string): Rotary {
  const parameters = json.rope_parameters ?? { rope_theta: json.rope_theta, ...json.rope_scaling };
  const theta = parameters.rope_theta ?? json.rope_theta ?? 10_000;
  const type = parameters.rope_type ?? parameters.type ?? "default";
  if (type === "default") return { theta, yarn: undefined };
  if (type !== "yarn") throw new RangeError(`${path}: expected rope_type default or yarn, got ${JSON.stringify(type)}`);
  const yarn = {
    factor: parameters.factor,
    firstContext: parameters.original_max_position_embeddings ?? json.max_position_embeddings,
    fast: parameters.beta_fast ?? 32,
    slow: parameters.beta_slow ?? 1,
    truncate: parameters.truncate ?? true,
  };
  return { theta, yarn };
}

/** Whether a layer's tokens see a window only. */
// biome-ignore lint/suspicious/noExplicitAny: a parsed JSON file.
function slides(json: any, layer: number, path: string): boolean {
  const type = json.layer_types?.[layer];
  if (type !== undefined) return type === "sliding_attention";
  if (json.use_sliding_window || json.model_type === "gpt_oss") {
    throw new RangeError(`${path}: expected layer_types, which say what layers have a sliding window, got none`);
  }
  return json.model_type === "mixtral" && Boolean(json.sliding_window);
}
