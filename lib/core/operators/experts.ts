import { input, matrix, operator, optionalInput, output, packedExperts } from "./field.js";

/** Moves rows to the experts, through them and back. */
export const experts = {
  /** rows [R, H]: row r is x[tokenOfRow[r]], or zeros if that is -1. */
  permute: operator({ x: input, tokenOfRow: input, rows: output }),
  /** slots [T, k, H]: slot (t, j) is rows[rowOfSlot[t, j]], or zeros if that is -1. */
  unpermute: operator({ rows: input, rowOfSlot: input, slots: output }),
  /**
   * y [R, N]: activation(x_r weight[e]^T + bias[e]) for the rows offsets[e] .. offsets[e+1] of expert e, where x_r is
   * x[tokenOfRow[r]] with tokenOfRow, else x[r]. Rows from offsets[E] on are zeros.
   */
  groupedGemm: operator({
    x: input,
    weight: packedExperts,
    bias: optionalInput,
    offsets: input,
    tokenOfRow: optionalInput,
    y: output,
  }),
  /** y [T, H] = sum over j of weights[t, j] * rows[rowOfSlot[t, j]], in order of j, float32; -1 adds nothing. */
  combine: operator({ rows: input, rowOfSlot: input, weights: input, y: output }),
  /** target [rows, columns] = source, rounded to target's dtype. */
  copyMatrix: operator({ source: matrix, target: output }),
};
