import type { ImbalanceMeasure } from "../../core/operators/statistics.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf } from "../core/matrix.js";

/** scale * the mean of Σ tokens * means / counts over the sequences with a count; 0 if there are none. */
export function balanceLoss(tokens: Int32Array, means: Matrix, counts: Int32Array, scale: number): number {
  const losses: number[] = [];
  counts.forEach((count, sequence) => {
    if (count === 0) return;
    const first = sequence * means.columns;
    const sum = rowOf(means, sequence).reduce(
      (all, mean, expert) => all + mean * (tokens[first + expert] as number),
      0,
    );
    losses.push(sum / count);
  });
  return losses.length === 0 ? 0 : (scale * losses.reduce((a, b) => a + b)) / losses.length;
}

/** How uneven the values are; see ImbalanceMeasure. */
export function imbalance(values: Float64Array, measure: ImbalanceMeasure, epsilon: number): number {
  const { length } = values;
  if (length === 0) return 0;
  const mean = values.reduce((a, b) => a + b) / length;
  if (measure === "maximum_violation") return mean === 0 ? 0 : values.reduce((a, b) => Math.max(a, b)) / mean - 1;
  const divisor = measure === "cv_squared_unbiased" ? length - 1 : length;
  if (divisor === 0) return 0;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / divisor;
  return variance / (mean ** 2 + epsilon);
}

/** bias + rate * sign(mean count - count), where the counts are the column sums of tokens [S, E]. */
function updatedSelectionBias(bias: Float64Array, tokens: Int32Array, rate: number): Float64Array {
  const experts = bias.length;
  const counts = new Float64Array(experts);
  tokens.forEach((count, index) => {
    counts[index % experts] = (counts[index % experts] as number) + count;
  });
  const total = counts.reduce((a, b) => a + b, 0);
  return bias.map((value, expert) => value + rate * Math.sign(total - (counts[expert] as number) * experts));
}

export const runBalanceLoss: Implementation<"balanceLoss"> = ({ tokens, means, counts, loss, scale }) => {
  loss.store(Float64Array.of(balanceLoss(tokens.integers(), means.matrix(), counts.integers(), scale)));
};

export const runImbalance: Implementation<"imbalance"> = ({ values, result, measure, epsilon }) => {
  result.store(Float64Array.of(imbalance(values.values(), measure, epsilon)));
};

export const runUpdateSelectionBias: Implementation<"updateSelectionBias"> = ({ bias, tokens, updated, rate }) => {
  updated.store(updatedSelectionBias(bias.values(), tokens.integers(), rate));
};
