import { expertScorings } from "../layer/routing_rule.js";
import {
  boolean,
  choice,
  input,
  integer,
  number,
  operator,
  optionalInput,
  optionalOutput,
  output,
  updated,
} from "./field.js";

const imbalanceMeasures = ["cv_squared", "cv_squared_unbiased", "maximum_violation"] as const;
/**
 * How uneven n values are: variance / (mean² + epsilon), with a variance over n (`cv_squared`) or n - 1
 * (`cv_squared_unbiased`, 0 for one value); or the largest value / mean - 1 (`maximum_violation`, 0 if the mean is 0).
 */
export type ImbalanceMeasure = (typeof imbalanceMeasures)[number];

/**
 * Router statistics and losses. The T tokens are S sequences of equal length, one after another. Sums are float64, or
 * exact for integers, in an order that depends only on the sizes. Tokens whose entry in tokenMask [T] u8 is 0 do not
 * count, whatever the other tensors hold for them.
 */
export const statistics = {
  /**
   * From logits [T, E]: scores [T, E], with `normalize` divided by their sum over the experts; ln Σ exp(logit) [T]; and
   * the entropy [T] of the softmax in nats. NaN counts as -Infinity.
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
   * dLogits [T, E] f32 from the gradients of routerScores' results; at least one is given. A logit that is not finite
   * gets 0.
   */
  routerScoresBackward: operator({
    logits: input,
    dScores: optionalInput,
    dLogSumExp: optionalInput,
    dEntropy: optionalInput,
    dLogits: output,
    scoring: choice(expertScorings),
    normalize: boolean,
  }),
  /**
   * From the first `choices` ids of every token in ids [T, k]: tokens [S, E] i32, how many chose each expert; dropped
   * [S] i32, how many chose none; sums [S, E], the sums of their weights [T, k].
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
  /** dWeights [T, k]: dSums [S, E] of each choice that counts, and 0 for the others. */
  expertTotalsBackward: operator({
    ids: input,
    tokenMask: optionalInput,
    dSums: input,
    dWeights: output,
    choices: integer,
  }),
  /**
   * means [S, N] of values [T, N], or of their squares, over the rows of each sequence that count, or with `total`
   * their sums; 0 if no row counts. counts [S] i32: how many rows count.
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
   * dValues [T, N] = dMeans [S, N] / counts [S] i32, or dMeans without counts, for the rows of each sequence that count,
   * and 0 for the others; with values [T, N], of whose squares it was the mean, times 2 * values.
   */
  columnMeansBackward: operator({
    dMeans: input,
    counts: optionalInput,
    values: optionalInput,
    tokenMask: optionalInput,
    dValues: output,
  }),
  /**
   * loss [1] = scale * the mean of Σₑ tokens [S, E] * means [S, E] / counts [S] i32 over the sequences with a count
   * above 0; 0 if there are none.
   */
  balanceLoss: operator({ tokens: input, means: input, counts: input, loss: output, scale: number }),
  /** dMeans [S, E] = scale * tokens / counts / the number of sequences with a count above 0; 0 without a count. */
  balanceLossBackward: operator({ tokens: input, counts: input, dMeans: output, scale: number }),
  /** result [1]: the measure of values of any shape, i32 or float. */
  imbalance: operator({ values: input, result: output, measure: choice(imbalanceMeasures), epsilon: number }),
  /** dValues [N] = scale * the derivative of cv_squared, or cv_squared_unbiased, by values [N]. */
  cvSquaredBackward: operator({
    values: input,
    dValues: output,
    unbiased: boolean,
    epsilon: number,
    scale: number,
  }),
  /**
   * updated [E] = bias [E] + rate * sign(mean of all counts - the expert's count), where the counts are the column sums
   * of tokens [S, E]. `updated` may be `bias`.
   */
  updateSelectionBias: operator({ bias: input, tokens: input, updated: output, rate: number }),
  /**
   * totals [N, 2] += scale * values [N], or values [N, 2] that are totals themselves; for integers the scale is 1. An
   * i32 total is a 64-bit integer, low word first; a float total is the unevaluated sum of two floats, larger first.
   */
  accumulate: operator({ values: input, totals: updated, valuesAreTotals: boolean, scale: number }),
};
