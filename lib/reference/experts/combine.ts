import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import type { ReferenceTensor } from "../core/tensor.js";

/** y[t] = Σⱼ weights[t, j] · rows[rowOfSlot[t, j]], summed in order of j; a slot of -1 adds nothing. */
export function combine(rows: Matrix, rowOfSlot: Int32Array, weights: Matrix): Matrix {
  const y = zeros(weights.rows, rows.columns);
  rowOfSlot.forEach((row, slot) => {
    if (row < 0) return;
    const target = rowOf(y, Math.floor(slot / weights.columns));
    const weight = weights.values[slot] as number;
    rowOf(rows, row).forEach((value, column) => {
      (target[column] as number) += weight * value;
    });
  });
  return y;
}

/** y + residual, if there is one. */
export function withResidual(y: Matrix, residual: ReferenceTensor | null | undefined): Matrix {
  if (!residual) return y;
  const added = residual.values();
  return { ...y, values: y.values.map((value, index) => value + (added[index] as number)) };
}

export const runCombine: Implementation<"combine"> = ({ rows, rowOfSlot, weights, residual, y }, stream) => {
  const source = rows.matrix();
  const indices = stream.checkIndices("combine: rowOfSlot", rowOfSlot, "a row", source.rows);
  y.store(withResidual(combine(source, indices, weights.matrix()), residual).values);
};
