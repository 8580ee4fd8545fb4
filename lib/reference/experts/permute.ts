import { type Matrix, rowOf, zeros } from "../core/matrix.js";

/**
 * Row r of the result is source[indices[r]], or zeros if the index is -1. Permute (indices = tokenOfRow) and unpermute
 * (indices = rowOfSlot) are both this gather.
 */
export function gather(source: Matrix, indices: Int32Array): Matrix {
  const result = zeros(indices.length, source.columns);
  indices.forEach((index, row) => {
    if (index >= 0) rowOf(result, row).set(rowOf(source, index));
  });
  return result;
}
