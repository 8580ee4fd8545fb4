import { isGated } from "../../core/layer/activation.js";
import type { Implementation } from "../core/implementation.js";
import { linear, type Matrix, rowOf, zeros } from "../core/matrix.js";
import { activate } from "./activation.js";
import type { Experts } from "./experts.js";

/**
 * y[r] = activation(x[r] · weight[e]ᵀ + bias[e]) for the rows offsets[e] .. offsets[e+1] of expert e; with
 * `tokenOfRow`, x[tokenOfRow[r]] takes the place of x[r]. Rows without an expert or of token -1 are zeros.
 * @param factors multiply the rows of x, once they are rounded as the experts round them; default 1.
 */
export function groupedGemm(
  x: Matrix,
  experts: Experts,
  bias: Matrix | undefined,
  offsets: Int32Array,
  tokenOfRow: Int32Array | undefined,
  factors?: Float64Array,
): Matrix {
  const { rows, activation, clamp } = experts;
  const y = zeros(tokenOfRow?.length ?? x.rows, isGated(activation) ? rows / 2 : rows);
  for (let expert = 0; expert < offsets.length - 1; expert++) {
    const [begin, end] = [offsets[expert] as number, offsets[expert + 1] as number];
    if (begin === end) continue;
    const weight = experts.weight(expert);
    const expertBias = bias && rowOf(bias, expert);
    for (let row = begin; row < end; row++) {
      const token = tokenOfRow ? (tokenOfRow[row] as number) : row;
      if (token < 0) continue;
      const input = experts.input(expert, rowOf(x, token));
      const factor = factors?.[row];
      const scaled = factor === undefined ? input : input.map((value) => value * factor);
      rowOf(y, row).set(activate(activation, clamp, linear(scaled, weight, expertBias)));
    }
  }
  return y;
}

export const runGroupedGemm: Implementation<"groupedGemm"> = ({ x, weight, bias, offsets, tokenOfRow, y }, stream) => {
  const source = x.matrix();
  const ranges = stream.checkOffsets("groupedGemm: offsets", offsets, y.shape[0] as number);
  const tokens = tokenOfRow
    ? stream.checkIndices("groupedGemm: tokenOfRow", tokenOfRow, "a row", source.rows)
    : undefined;
  y.store(groupedGemm(source, weight, bias?.matrix(), ranges, tokens).values);
};
