import type { Implementation } from "../core/implementation.js";

/** Rows of a table of experts; see lib/operators/routing/look_up_experts.ts. */
export const runLookUpExperts: Implementation<"lookUpExperts"> = ({ table, tokenIds, ids }, stream) => {
  const [rows, topK] = table.shape as [number, number];
  const experts = table.integers();
  const found = new Int32Array((tokenIds.shape[0] as number) * topK).fill(-1);
  stream.checkIndices("lookUpExperts: tokenIds", tokenIds, "a token id", rows).forEach((row, token) => {
    if (row >= 0) found.set(experts.subarray(row * topK, (row + 1) * topK), token * topK);
  });
  ids.store(found);
};
