import type { ImbalanceMeasure } from "../statistics_backend.js";
import { type Matrix, zeros } from "./matrix.js";

/** means [S, N] of values [T, N], or of their squares, over S sequences of equal length; 0 where there are no rows. */
export function columnMeans(values: Matrix, sequences: number, square: boolean): Matrix {
  const means = zeros(sequences, values.columns);
  const rows = values.rows / sequences;
  for (let row = 0; row < values.rows; row++) {
    const sequence = Math.floor(row / rows);
    for (let column = 0; column < values.columns; column++) {
      const value = values.values[row * values.columns + column] as number;
      const cell = sequence * values.columns + column;
      means.values[cell] = (means.values[cell] as number) + (square ? value * value : value);
    }
  }
  return { ...means, values: means.values.map((sum) => (rows === 0 ? 0 : sum / rows)) };
}

/** factor * Σ tokens * means. */
export function balanceLoss(tokens: Int32Array, means: Float64Array, factor: number): number {
  return factor * tokens.reduce((sum, count, index) => sum + count * (means[index] as number), 0);
}

/** How uneven values are; see ImbalanceMeasure. */
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

/** bias + rate * sign(mean count - count), the counts being the column sums of tokens [S, E]. */
export function updatedSelectionBias(bias: Float64Array, tokens: Int32Array, rate: number): Float64Array {
  const experts = bias.length;
  const counts = new Float64Array(experts);
  tokens.forEach((count, index) => {
    counts[index % experts] = (counts[index % experts] as number) + count;
  });
  const total = counts.reduce((a, b) => a + b, 0);
  return bias.map((value, expert) => value + rate * Math.sign(total - (counts[expert] as number) * experts));
}
