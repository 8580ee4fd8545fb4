import { choice, input, integer, number, operator, optionalInput, output, seed } from "./field.js";

export const distributions = ["uniform", "normal"] as const;
/** What random numbers are drawn from: uniform in (0, 1), or normal of mean 0 and deviation 1. */
export type Distribution = (typeof distributions)[number];

/** Random numbers, and gates with noise. */
export const noise = {
  /** values[i] = number offset + i of the seed's sequence (Philox4x32-10), i being the row-major index. */
  random: operator({ seed, offset: integer, distribution: choice(distributions), values: output }),
  /** y[i] = x[i] * (1 + epsilon * (2 u - 1)), u being number i of the seed's uniform sequence; of x's dtype. */
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
  /**
   * load [E]: the sum over tokens, but for those whose place in tokenMask [T] u8 is 0, of Φ((clean - threshold) / deviation),
   * threshold being what the expert's noisy logit has to exceed to be among the topK. With groupIds [T, k1] and groupLoad
   * [G] that is among the E / G experts of its group, over the tokens that chose the group, times groupLoad / the number of
   * these tokens.
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
};
