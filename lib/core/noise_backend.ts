import type { TensorHandle } from "./backend.js";

/** What random numbers are drawn from: uniform in (0, 1), or normal of mean 0 and deviation 1. */
export type Distribution = "uniform" | "normal";
export const distributions: readonly Distribution[] = ["uniform", "normal"];

/** The part of the operator table that has to do with random numbers. */
export interface NoiseBackend {
  /** values[i] = number offset + i of the seed's sequence (Philox4x32-10), i being the row-major index. */
  random(seed: bigint, offset: number, distribution: Distribution, values: TensorHandle): void;
  /** y[i] = x[i] * (1 + epsilon * (2 u - 1)), u being number i of the seed's uniform sequence; of x's dtype. */
  jitter(x: TensorHandle, seed: bigint, epsilon: number, y: TensorHandle): void;
  /** deviation = softplus(spread) + epsilon; logits = clean + noise * deviation; all [T, E] f32. */
  noisyLogits(
    clean: TensorHandle,
    spread: TensorHandle,
    noise: TensorHandle,
    epsilon: number,
    logits: TensorHandle,
    deviation: TensorHandle,
  ): void;
  /**
   * load [E]: the sum over tokens, but for those whose place in tokenMask [T] u8 is 0, of Φ((clean - threshold) / deviation),
   * threshold being what the expert's noisy logit has to exceed to be among the topK. With groupIds [T, k1] and groupLoad
   * [G] that is among the E / G experts of its group, over the tokens that chose the group, times groupLoad / the number of
   * these tokens.
   */
  expertLoad(
    clean: TensorHandle,
    noisy: TensorHandle,
    deviation: TensorHandle,
    tokenMask: TensorHandle | null,
    topK: number,
    groupIds: TensorHandle | null,
    groupLoad: TensorHandle | null,
    load: TensorHandle,
  ): void;
}
