import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";

/** dRows [rows, H]: weights[t, j] · dy[t] in the row of slot (t, j), zeros in a row without a slot. */
function rowGradients(rows: number, rowOfSlot: Int32Array, weights: Matrix, dy: Matrix): Matrix {
  const dRows = zeros(rows, dy.columns);
  const seen = new Set<number>();
  rowOfSlot.forEach((row, slot) => {
    if (row < 0 || seen.has(row)) return;
    seen.add(row);
    const weight = weights.values[slot] as number;
    const gradient = rowOf(dy, Math.floor(slot / weights.columns));
    rowOf(dRows, row).set(gradient.map((value) => weight * value));
  });
  return dRows;
}

/** dWeights [T, k]: the product of a slot's row and its token's dy, 0 for -1. */
function weightGradients(rows: Matrix, rowOfSlot: Int32Array, topK: number, dy: Matrix): Float64Array {
  return Float64Array.from(rowOfSlot, (row, slot) => {
    if (row < 0) return 0;
    const gradient = rowOf(dy, Math.floor(slot / topK));
    return rowOf(rows, row).reduce((sum, value, column) => sum + value * (gradient[column] as number), 0);
  });
}

export const runCombineBackward: Implementation<"combineBackward"> = (operands, stream) => {
  const { rows, rowOfSlot, weights, dy, dRows, dWeights } = operands;
  const count = (dRows ?? rows)?.shape[0] as number;
  const indices = stream.checkIndices("combineBackward: rowOfSlot", rowOfSlot, "a row", count);
  dRows?.store(rowGradients(count, indices, weights.matrix(), dy.matrix()).values);
  if (rows) dWeights?.store(weightGradients(rows.matrix(), indices, weights.shape[1] as number, dy.matrix()));
};
