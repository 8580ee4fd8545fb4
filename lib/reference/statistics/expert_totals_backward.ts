import type { Implementation } from "../core/implementation.js";
import { tokenMask } from "../core/token_mask.js";

/** dWeights[t, j] = dSums[sequence of t, ids[t, j]] for the choices that count. */
export const runExpertTotalsBackward: Implementation<"expertTotalsBackward"> = (operands, stream) => {
  const { ids, dSums, dWeights, choices } = operands;
  const [tokens, topK] = ids.shape as [number, number];
  const [sequences, numExperts] = dSums.shape as [number, number];
  const counts = tokenMask(operands.tokenMask);
  const isChecked = (token: number, choice: number) => choice < choices && counts(token);
  const chosen = stream.checkIndices("expertTotalsBackward: ids", ids, "an expert", numExperts, isChecked);
  const sums = dSums.values();
  const gradient = Float64Array.from(chosen, (expert, slot) => {
    const token = Math.floor(slot / topK);
    if (expert < 0 || !isChecked(token, slot % topK)) return 0;
    return sums[Math.floor((token * sequences) / tokens) * numExperts + expert] as number;
  });
  dWeights.store(gradient);
};
