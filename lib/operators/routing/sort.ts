import { object, optional, results } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkIds, expertCount } from "../check.js";
import { Outputs } from "../outputs.js";

/** The (token, slot) pairs of a routing, sorted by expert. All i32. */
export interface SortedRows {
  /** [E+1]; the rows of expert e are offsets[e] .. offsets[e+1]. */
  readonly offsets: Tensor<"i32">;
  /** [E], how many rows each expert has. */
  readonly tokensPerExpert: Tensor<"i32">;
  /** [T*k], the token of each row; -1 after the last row, once for every id of -1. */
  readonly tokenOfRow: Tensor<"i32">;
  /** [T, k], the row of each (token, slot); -1 if the id was -1. */
  readonly rowOfSlot: Tensor<"i32">;
}

const sortedRows = results({
  offsets: tensor<"i32">(),
  tokensPerExpert: tensor<"i32">(),
  tokenOfRow: tensor<"i32">(),
  rowOfSlot: tensor<"i32">(),
});
const sortOptions = object({ numExperts: expertCount, out: optional(sortedRows) }, "{ numExperts: 8 }");

/**
 * Sorts the (token, slot) pairs by expert. The sort is stable: rows of one expert are in order of token, then slot.
 *
 * @param ids [T, k] i32, each -1 (no expert) or 0 .. E-1. Any other id is treated as -1 and reported as ID_OUT_OF_RANGE
 * at the next wait.
 * @param options.numExperts E.
 * @throws INVALID_ARGUMENT (E < 1, T*k >= 2^31), SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function sort(ids: Tensor<"i32">, options: { numExperts: number; out?: SortedRows | undefined }): SortedRows {
  checkIds("ids", ids);
  const { numExperts, out } = sortOptions(options, "options");
  const { device, size } = ids;
  using outputs = new Outputs(device, [ids]);
  const offsets = outputs.next("out.offsets", out?.offsets, [numExperts + 1], "i32");
  const tokensPerExpert = outputs.next("out.tokensPerExpert", out?.tokensPerExpert, [numExperts], "i32");
  const tokenOfRow = outputs.next("out.tokenOfRow", out?.tokenOfRow, [size], "i32");
  const rowOfSlot = outputs.next("out.rowOfSlot", out?.rowOfSlot, ids.shape, "i32");
  device.backend.sort({
    ids: ids.handle,
    offsets: offsets.handle,
    tokensPerExpert: tokensPerExpert.handle,
    tokenOfRow: tokenOfRow.handle,
    rowOfSlot: rowOfSlot.handle,
  });
  return outputs.returned({ offsets, tokensPerExpert, tokenOfRow, rowOfSlot });
}
