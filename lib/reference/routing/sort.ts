import type { Implementation } from "../core/implementation.js";
/** The (token, slot) pairs of ids [T, k], sorted by expert. */
export interface SortResult {
  /** [E+1] */
  readonly offsets: Int32Array;
  /** [E] */
  readonly tokensPerExpert: Int32Array;
  /** [T*k], padded with -1 */
  readonly tokenOfRow: Int32Array;
  /** [T, k], -1 for ids of -1 */
  readonly rowOfSlot: Int32Array;
}

/** Counting sort of the pairs by expert: stable, so an expert's rows are in order of token, then slot. */
export function sort(ids: Int32Array, topK: number, numExperts: number): SortResult {
  const tokensPerExpert = new Int32Array(numExperts);
  for (const expert of ids) if (expert >= 0) (tokensPerExpert[expert] as number)++;

  const offsets = new Int32Array(numExperts + 1);
  for (let expert = 0; expert < numExperts; expert++) {
    offsets[expert + 1] = (offsets[expert] as number) + (tokensPerExpert[expert] as number);
  }

  const nextRow = offsets.slice();
  const tokenOfRow = new Int32Array(ids.length).fill(-1);
  const rowOfSlot = new Int32Array(ids.length).fill(-1);
  ids.forEach((expert, slot) => {
    if (expert < 0) return;
    const row = (nextRow[expert] as number)++;
    tokenOfRow[row] = Math.floor(slot / topK);
    rowOfSlot[slot] = row;
  });
  return { offsets, tokensPerExpert, tokenOfRow, rowOfSlot };
}

export const runSort: Implementation<"sort"> = ({ ids, offsets, tokensPerExpert, tokenOfRow, rowOfSlot }, stream) => {
  const [topK, numExperts] = [ids.shape[1] as number, tokensPerExpert.shape[0] as number];
  const result = sort(stream.checkIndices("sort: ids", ids, "an expert", numExperts), topK, numExperts);
  offsets.store(result.offsets);
  tokensPerExpert.store(result.tokensPerExpert);
  tokenOfRow.store(result.tokenOfRow);
  rowOfSlot.store(result.rowOfSlot);
};
