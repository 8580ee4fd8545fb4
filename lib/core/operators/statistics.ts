import { expertScorings } from "../routing_rule.js";
import { boolean, choice, input, integer, number, operator, optionalInput, optionalOutput, output } from "./field.js";

export const imbalanceMeasures = ["cv_squared", "cv_squared_unbiased", "maximum_violation"] as const;
/**
 * How uneven n values are: variance / (mean² + epsilon) with the variance over n (`cv_squared`) or n - 1
 * (`cv_squared_unbiased`, 0 for one value), or the largest value / mean - 1 (`maximum_violation`, 0 where the mean is 0).
 */
export type ImbalanceMeasure = (typeof imbalanceMeasures)[number];

/**
 * What a router did, and losses of it. S sequences of equal length stand one after another in T tokens. Sums are formed
 * in float64, or exactly where they are of integers, in an order that depends on the sizes alone. Tokens whose place in
 * tokenMask [T] u8 is 0 count for nothing, whatever the other tensors hold of them.
 */
export const statistics = {
  /**
   * Of logits [T, E]: scores [T, E], with `normalize` divided by their sum over the experts; ln Σ exp(logit) [T]; and the
   * entropy [T] of the softmax, natural logarithm. NaN counts as -Infinity.
   */
  routerScores: operator({
    logits: input,
    scores: optionalOutput,
    logSumExp: optionalOutput,
    entropy: optionalOutput,
    scoring: choice(expertScorings),
    normalize: boolean,
  }),
  /**
   * Of the first `choices` ids of every token in ids [T, k]: tokens [S, E] i32, how many chose each expert; dropped [S]
   * i32, how many chose none; sums [S, E], the sums of their weights [T, k].
   */
  expertTotals: operator({
    ids: input,
    weights: optionalInput,
    tokenMask: optionalInput,
    tokens: output,
    dropped: output,
    sums: optionalOutput,
    choices: integer,
  }),
  /**
   * means [S, N] of values [T, N], or of their squares, over the rows of each sequence that count, or their sums where
   * `total`; 0 where there are no rows. counts [S] i32: how many rows count.
   */
  columnMeans: operator({
    values: input,
    tokenMask: optionalInput,
    means: output,
    counts: optionalOutput,
    square: boolean,
    total: boolean,
  }),
  /**
   * loss [1] = factor * the mean of Σₑ tokens * means / counts over the sequences whose counts [S] i32 is above 0, both
   * [S, E]; 0 where there are none.
   */
  balanceLoss: operator({ tokens: input, means: input, counts: input, loss: output, factor: number }),
  /** result [1] of values of any shape, i32 or float. */
  imbalance: operator({ values: input, result: output, measure: choice(imbalanceMeasures), epsilon: number }),
  /**
   * updated [E] = bias [E] + rate * sign(mean of all counts - the expert's count), the counts being the column sums of
   * tokens [S, E]. `updated` may be `bias`.
   */
  updateSelectionBias: operator({ bias: input, tokens: input, updated: output, rate: number }),
  /**
   * totals [N, 2] += factor * values [N], or values [N, 2] that are totals themselves; the factor of integers is 1. A total of
   * i32 is a 64-bit integer, its low word first; one of floats is the unevaluated sum of two, the larger first.
   */
  accumulate: operator({ values: input, totals: output, valuesAreTotals: boolean, factor: number }),
};
