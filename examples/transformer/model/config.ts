/** How a mixture's load is balanced over its experts. */
export const balances = ["noisy", "loss-free", "loss"] as const;
/**
 * `noisy`: noisy top-k gating and a load-balancing loss; `loss-free`: a selection bias that follows the load;
 * `loss`: a load-balancing loss alone.
 */
export type Balance = (typeof balances)[number];

export interface MixtureConfig {
  experts: number;
  /** Experts of each token. */
  topK: number;
  /** Width of one expert. */
  intermediateSize: number;
  balance: Balance;
}

export interface ModelConfig {
  /** Number of tokens: 256 bytes, and in an encoder one that masks. */
  vocabulary: number;
  hiddenSize: number;
  layers: number;
  heads: number;
  /** Width of the dense feed-forward layers. */
  intermediateSize: number;
  /** Most tokens of a sequence. */
  context: number;
  /** True: a decoder, whose tokens see only those before them; false: an encoder. */
  causal: boolean;
  norm: "rms" | "layer";
  /** Replaces every second feed-forward layer; undefined for a dense model. */
  mixture?: MixtureConfig;
}

/** The mixture of experts of block `index`, from 0; undefined if it has a dense layer. */
export function mixtureOf(config: ModelConfig, index: number): MixtureConfig | undefined {
  return index % 2 === 1 ? config.mixture : undefined;
}

/** Checks sizes that must divide each other. */
export function checkConfig(config: ModelConfig): ModelConfig {
  const { hiddenSize, heads, mixture } = config;
  if (hiddenSize % (2 * heads) !== 0) {
    throw new RangeError(`hiddenSize: expected a multiple of twice the ${heads} heads, got ${hiddenSize}`);
  }
  if (mixture && mixture.topK > mixture.experts) {
    throw new RangeError(`topK: expected at most the ${mixture.experts} experts, got ${mixture.topK}`);
  }
  return config;
}

/** The same model with dense layers in place of the mixtures, as wide as the experts of a token together. */
export function denseTwin({ mixture, ...config }: ModelConfig): ModelConfig {
  if (mixture && mixture.topK * mixture.intermediateSize !== config.intermediateSize) {
    throw new RangeError(
      `intermediateSize: expected ${mixture.topK} times the experts' ${mixture.intermediateSize} for a dense model with ` +
        `equal operations per token, got ${config.intermediateSize}`,
    );
  }
  return config;
}

/** Multiply-adds of a forward for one token: the matrices that it passes, and attention over a full context. */
export function multiplyAdds(config: ModelConfig): number {
  const { hiddenSize, layers, context, vocabulary, intermediateSize } = config;
  let total = hiddenSize * vocabulary;
  for (let index = 0; index < layers; index++) {
    total += 4 * hiddenSize ** 2 + 2 * context * hiddenSize;
    const mixture = mixtureOf(config, index);
    total += 3 * hiddenSize * (mixture ? mixture.topK * mixture.intermediateSize : intermediateSize);
    total += (mixture?.experts ?? 0) * hiddenSize;
  }
  return total;
}
