import { choice, input, integer, number, operator, optionalInput, output, seed } from "./field.js";

export const distributions = ["uniform", "normal"] as const;
/**
 * Distribution of random numbers: uniform in (0, 1), or normal with mean 0 and deviation 1.
 *
 * @useDeclaredType
 */
export type Distribution = (typeof distributions)[number];

/** Random numbers and noisy gating. */
export const noise = {
  /** values[i] = number offset + i of the seed's sequence (Philox4x32-10), where i is the row-major index. */
  random: operator({ seed, offset: integer, distribution: choice(distributions), values: output }),
  /** y[i] = x[i] * (1 + epsilon * (2 u - 1)), where u is number i of the seed's uniform sequence; y has x's dtype. */
  jitter: operator({ x: input, seed, epsilon: number, y: output }),
  /** deviation = softplus(spread) + epsilon; logits = clean + noise * deviation; all [T, E] f32. */
  noisyLogits: operator({
    clean: input,
    spread: input,
    noise: input,
    epsilon: number,
    logits: output,
    deviation: output,
  }),
  /** dSpread = (dLogits * noise + dDeviation) * the derivative of softplus(spread); all [T, E] f32. */
  noisyLogitsBackward: operator({
    spread: input,
    noise: input,
    dLogits: input,
    dDeviation: optionalInput,
    dSpread: output,
  }),
  /**
   * load [E]: the sum of Φ((clean - threshold) / deviation) over the tokens whose entry in tokenMask [T] u8 is not 0.
   * The threshold is what the expert's noisy logit must exceed to be among the topK. With groupIds [T, k1] and
   * groupLoad [G], ranks are among the E / G experts of the group, the sum is over the tokens that chose the group, and
   * it is multiplied by groupLoad / the number of these tokens.
   */
  expertLoad: operator({
    clean: input,
    noisy: input,
    deviation: input,
    tokenMask: optionalInput,
    topK: integer,
    groupIds: optionalInput,
    groupLoad: optionalInput,
    load: output,
  }),
  /**
   * The gradients [T, E] of expertLoad's inputs from dLoad [E], with the tokens' groups held fixed. Those of the
   * thresholds are at the noisy logits that they are.
   */
  expertLoadBackward: operator({
    clean: input,
    noisy: input,
    deviation: input,
    tokenMask: optionalInput,
    topK: integer,
    groupIds: optionalInput,
    groupLoad: optionalInput,
    dLoad: input,
    dClean: output,
    dNoisy: output,
    dDeviation: output,
  }),
};
