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
  /** What RMSNorms add to the mean of squares. */
  readonly epsilon: number;
  readonly vocabulary: number;
  /** Rotary positions (RoPE). */
  readonly rotary: Rotary;
  /** How many tokens, itself included, a token of each layer sees; Infinity for all. */
  readonly windows: readonly number[];
  readonly names: TensorNames;
}

/** RoPE (arXiv 2104.09864), by YaRN (arXiv 2309.00071) stretched to longer contexts. */
export interface Rotary {
  readonly theta: number;
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
}

export const families = ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss"] as const;
export type Family = (typeof families)[number];

/** Checks what must hold of any model. @throws RangeError */
export function checkConfig(config: ModelConfig, path: string): ModelConfig {
  for (const [name, value] of Object.entries(config)) {
    if (typeof value !== "number" || value > 0) continue;
    throw new RangeError(`${path}: ${name}: expected a number above 0, got ${value}`);
  }
  const { heads, keyValueHeads, windows } = config;
  const wrong = windows.findIndex((window) => !(window > 0));
  if (wrong >= 0) {
    throw new RangeError(`${path}: expected a window above 0 where attention slides, got ${windows[wrong]}`);
  }
  if (heads % keyValueHeads === 0) return config;
  throw new RangeError(`${path}: expected as many heads of keys as divide the ${heads} heads, got ${keyValueHeads}`);
}
