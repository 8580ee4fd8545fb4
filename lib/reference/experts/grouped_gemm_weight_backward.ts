import type { Implementation } from "../core/implementation.js";
import { addScaled, type Matrix, rowOf } from "../core/matrix.js";

/** What gradients are added to, expert after expert: [E * N, K] and [E, N]. */
interface Sums {
  readonly dWeight: Matrix;
  readonly dBias: Matrix | undefined;
}

/**
 * Adds Σᵣ dy[r]ᵀ · x[r] to dWeight[e], and Σᵣ dy[r] to dBias[e], over the rows r of expert e; with `tokenOfRow`,
 * x[tokenOfRow[r]] takes the place of x[r]. A row of token -1 is zeros whatever the weights are, so it adds nothing.
 */
function addWeightGradients(
  x: Matrix,
  dy: Matrix,
  offsets: Int32Array,
  tokenOfRow: Int32Array | undefined,
  { dWeight, dBias }: Sums,
): void {
  for (let expert = 0; expert < offsets.length - 1; expert++) {
    for (let row = offsets[expert] as number; row < (offsets[expert + 1] as number); row++) {
      const token = tokenOfRow ? (tokenOfRow[row] as number) : row;
      if (token < 0) continue;
      rowOf(dy, row).forEach((gradient, output) => {
        addScaled(rowOf(dWeight, expert * dy.columns + output), gradient, rowOf(x, token));
      });
      if (dBias) addScaled(rowOf(dBias, expert), 1, rowOf(dy, row));
    }
  }
}

export const runGroupedGemmWeightBackward: Implementation<"groupedGemmWeightBackward"> = (operands, stream) => {
  const { x, tokenOfRow, dy, offsets, accumulate, dWeight, dBias } = operands;
  const name = "groupedGemmWeightBackward";
  const source = x.matrix();
  const gradients = dy.matrix();
  const ranges = stream.checkOffsets(`${name}: offsets`, offsets, gradients.rows);
  const tokens = tokenOfRow ? stream.checkIndices(`${name}: tokenOfRow`, tokenOfRow, "a row", source.rows) : undefined;
  const experts = ranges.length - 1;
  const held = (tensor: typeof dWeight, rows: number, columns: number): Matrix => {
    const values = accumulate ? tensor.values() : new Float64Array(rows * columns);
    return { values, rows, columns };
  };
  const sums = {
    dWeight: held(dWeight, experts * gradients.columns, source.columns),
    dBias: dBias ? held(dBias, experts, gradients.columns) : undefined,
  };
  addWeightGradients(source, gradients, ranges, tokens, sums);
  dWeight.store(sums.dWeight.values);
  if (dBias && sums.dBias) dBias.store(sums.dBias.values);
};
