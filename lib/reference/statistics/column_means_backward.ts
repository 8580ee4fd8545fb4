import type { Implementation } from "../core/implementation.js";
import { rowOf, zeros } from "../core/matrix.js";
import { tokenMask } from "../core/token_mask.js";

/** dValues[t] = dMeans[sequence of t] / counts, times 2 · values[t] for squares; 0 for rows that do not count. */
export const runColumnMeansBackward: Implementation<"columnMeansBackward"> = (operands) => {
  const { dMeans, counts, values, dValues } = operands;
  const [rows, columns] = dValues.shape as [number, number];
  const means = dMeans.matrix();
  const rowCounts = counts?.integers();
  const squared = values?.matrix();
  const isCounted = tokenMask(operands.tokenMask);
  const gradient = zeros(rows, columns);
  for (let row = 0; row < rows; row++) {
    if (!isCounted(row)) continue;
    const sequence = Math.floor((row * means.rows) / rows);
    const count = (rowCounts?.[sequence] as number | undefined) ?? 1;
    const slope = (column: number) => (squared ? 2 * (rowOf(squared, row)[column] as number) : 1);
    rowOf(gradient, row).set(rowOf(means, sequence).map((mean, column) => (mean * slope(column)) / count));
  }
  dValues.store(gradient.values);
};
