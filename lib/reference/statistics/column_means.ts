import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { type CountsToken, tokenMask } from "../core/token_mask.js";

/** The column sums over the rows that count in each sequence, and the number of such rows. */
interface ColumnSums {
  /** [S, N] */
  readonly sums: Matrix;
  /** [S] */
  readonly rows: Int32Array;
}

/** Sums values [T, N], or their squares, in S sequences of equal length. */
function columnSums(
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
function meansOf({ sums, rows }: ColumnSums): Matrix {
  const countAt = (index: number) => rows[Math.floor(index / sums.columns)] as number;
  return { ...sums, values: sums.values.map((sum, index) => (countAt(index) === 0 ? 0 : sum / countAt(index))) };
}

export const runColumnMeans: Implementation<"columnMeans"> = (operands) => {
  const { values, means, counts, square, total } = operands;
  const sequences = means.shape[0] as number;
  const result = columnSums(values.matrix(), { sequences, square, counts: tokenMask(operands.tokenMask) });
  means.store(total ? result.sums.values : meansOf(result).values);
  counts?.store(result.rows);
};
