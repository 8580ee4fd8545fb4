import type { TensorNames } from "./names.js";

/** What a model computes besides its experts, as its config.json says. */
export interface ModelConfig {
  readonly family: Family;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  /** Heads of keys and values; each serves `heads / keyValueHeads` heads of queries. */
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** The size of a head of values. */
  readonly valueSize: number;
  /** What the products of queries and keys are multiplied by. */
  readonly attentionScale: number;
  /** What RMSNorms add to the mean of squares. */
  readonly epsilon: number;
  readonly vocabulary: number;
  /** How many tokens a text has at most, by its files; undefined if they do not say. */
  readonly context: number | undefined;
  /** What the rows of the table are multiplied by, and the logits. */
  readonly tableScale: number;
  readonly logitScale: number;
  /** The layers without experts. */
  readonly dense: Dense;
  /** Rotary positions (RoPE). */
  readonly rotary: Rotary;
  /** How many tokens, itself included, a token of each layer sees; Infinity for all. */
  readonly windows: readonly number[];
  /** Where the heads above are those of latents. */
  readonly latent: Latent | undefined;
  readonly names: TensorNames;
}

/** What attention multiplies. */
export type HeadConfig = Pick<
  ModelConfig,
  "keyValueHeads" | "headSize" | "valueSize" | "attentionScale" | "rotary" | "latent"
>;

/**
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), where keys and values of all heads are made of one latent row of a
 * token. This example has one head of keys, which is that row and a turned key, and its values are the row.
 */
export interface Latent {
  /** Width of the row from which queries are made; undefined if that is the token's. */
  readonly queryRank: number | undefined;
  /** How much of a head of queries, and of keys that are made from the row, is not turned. */
  readonly plainSize: number;
  /** The size of a head of values that are made from the row. */
  readonly valueSize: number;
  /** The epsilon of the norms of these rows. */
  readonly epsilon: number;
}

export interface Dense {
  readonly intermediateSize: number;
  readonly activation: string;
}

/** RoPE (arXiv 2104.09864), by YaRN (arXiv 2309.00071) stretched to longer contexts. */
export interface Rotary {
  readonly theta: number;
  /** How many elements of a head are turned. */
  readonly size: number;
  /** Whether neighbouring elements of a head are a pair, instead of elements of its halves. */
  readonly neighbours: boolean;
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
  /** What turned heads are multiplied by. */
  readonly scale: number;
}

/** What YaRN multiplies by for a context that is `factor` times as long: 1 and a share of its logarithm. */
export function yarnScale(factor: number, share = 1): number {
  return factor <= 1 ? 1 : 0.1 * share * Math.log(factor) + 1;
}

/** What the norms of latent rows add to the mean of squares: their classes' default, which no configuration changes. */
export const latentEpsilon = 1e-6;

/**
 * What products of queries and keys of latents are multiplied by. As in DeepSeek's own code, YaRN's scale is in it, unlike
 * in DeepseekV2Attention of Transformers.
 *
 * @param size of a head. @param share `mscale_all_dim`.
 */
export function latentScale(size: number, factor: number, share: number | undefined): number {
  return size ** -0.5 * (share ? yarnScale(factor, share) ** 2 : 1);
}

/**
 * Granite multiplies all that is added to the residual stream. Here the stream is divided by that instead, so that sums need
 * no factor: the RMSNorm of x / r with epsilon / r² is that of x with epsilon.
 *
 * @param table what the rows of the table are multiplied by. @param residual what is multiplied in every sum.
 */
export function dividedStream(table: number, residual: number, epsilon: number) {
  return { tableScale: table / residual, epsilon: epsilon / residual ** 2 };
}

export const families = [
  "mixtral",
  "qwen2_moe",
  "qwen3_moe",
  "olmoe",
  "gpt_oss",
  "glm4_moe",
  "granitemoe",
  "deepseek_v2",
  "deepseek_v3",
  "kimi_k2",
] as const;
export type Family = (typeof families)[number];

/** Checks what must hold of any model. @throws RangeError */
export function checkConfig(config: ModelConfig, path: string): ModelConfig {
  const { heads, keyValueHeads, headSize, rotary, latent, windows } = config;
  const numbers = [config, rotary, rotary.yarn, latent].flatMap((part) => Object.entries(part ?? {}));
  for (const [name, value] of numbers) {
    if (typeof value !== "number" || (value > 0 && Number.isFinite(value))) continue;
    throw new RangeError(`${path}: ${name}: expected a finite number above 0, got ${value}`);
  }
  if (!(rotary.size > 0 && rotary.size % 2 === 0 && rotary.size <= headSize)) {
    const expected = `an even number of elements to turn, of the ${headSize} of a head`;
    throw new RangeError(`${path}: expected ${expected}, got ${rotary.size}`);
  }
  const wrong = windows.findIndex((window) => !(window > 0));
  if (wrong >= 0) {
    throw new RangeError(`${path}: expected a window above 0 where attention slides, got ${windows[wrong]}`);
  }
  if (heads % keyValueHeads === 0) return config;
  throw new RangeError(
    `${path}: expected a number of key-value heads that divides the ${heads} heads, got ${keyValueHeads}`,
  );
}
