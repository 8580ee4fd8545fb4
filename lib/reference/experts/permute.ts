import type { Implementation } from "../core/implementation.js";
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

export const runPermute: Implementation<"permute"> = ({ x, tokenOfRow, rows }, stream) => {
  const source = x.matrix();
  const indices = stream.checkIndices("permute: tokenOfRow", tokenOfRow, "a row", source.rows);
  rows.store(gather(source, indices).values);
};

export const runUnpermute: Implementation<"unpermute"> = ({ rows, rowOfSlot, slots }, stream) => {
  const source = rows.matrix();
  const indices = stream.checkIndices("unpermute: rowOfSlot", rowOfSlot, "a row", source.rows);
  slots.store(gather(source, indices).values);
};
