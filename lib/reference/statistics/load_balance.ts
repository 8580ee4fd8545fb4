import type { ImbalanceMeasure } from "../../core/statistics_backend.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import type { CountsToken } from "../core/token_mask.js";

/** The column sums over the rows that count in each sequence, and the number of such rows. */
export interface ColumnSums {
  /** [S, N] */
  readonly sums: Matrix;
  /** [S] */
  readonly rows: Int32Array;
}

/** Sums values [T, N], or their squares, in S sequences of equal length. */
export function columnSums(
  values: Matrix,
  { sequences, square, counts }: { sequences: number; square: boolean; counts: CountsToken },
): ColumnSums {
  const sums = zeros(sequences, values.columns);
  const rows = new Int32Array(sequences);
  for (let row = 0; row < values.rows; row++) {
    if (!counts(row)) continue;
    const sequence = Math.floor((row * sequences) / values.rows);
    rows[sequence] = (rows[sequence] as number) + 1;
    const own = rowOf(sums, sequence);
    rowOf(values, row).forEach((value, column) => {
      own[column] = (own[column] as number) + (square ? value * value : value);
    });
  }
  return { sums, rows };
}

/** The sums divided by the number of rows; 0 without rows. */
export function meansOf({ sums, rows }: ColumnSums): Matrix {
  const countAt = (index: number) => rows[Math.floor(index / sums.columns)] as number;
  return { ...sums, values: sums.values.map((sum, index) => (countAt(index) === 0 ? 0 : sum / countAt(index))) };
}

/** factor * the mean of Σ tokens * means / counts over the sequences with a count; 0 if there are none. */
export function balanceLoss(tokens: Int32Array, means: Matrix, counts: Int32Array, factor: number): number {
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
  return losses.length === 0 ? 0 : (factor * losses.reduce((a, b) => a + b)) / losses.length;
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
export function updatedSelectionBias(bias: Float64Array, tokens: Int32Array, rate: number): Float64Array {
  const experts = bias.length;
  const counts = new Float64Array(experts);
  tokens.forEach((count, index) => {
    counts[index % experts] = (counts[index % experts] as number) + count;
  });
  const total = counts.reduce((a, b) => a + b, 0);
  return bias.map((value, expert) => value + rate * Math.sign(total - (counts[expert] as number) * experts));
}
