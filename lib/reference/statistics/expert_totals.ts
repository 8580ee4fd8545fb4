import type { Implementation } from "../core/implementation.js";
import { type Matrix, zeros } from "../core/matrix.js";
import { type CountsToken, tokenMask } from "../core/token_mask.js";

/** How many slots of each sequence chose each expert, and the sums of their weights. */
export interface ExpertTotalsResult {
  /** [S, E] */
  readonly tokens: Int32Array;
  /** [S] */
  readonly dropped: Int32Array;
  /** [S, E] */
  readonly sums: Matrix;
}

interface Sizes {
  topK: number;
  choices: number;
  sequences: number;
  numExperts: number;
  counts: CountsToken;
}

/** See lib/operators/statistics/expert_totals.ts; `ids` [T, k] must be checked; -1 is no expert. */
export function expertTotals(
  ids: Int32Array,
  weights: Float64Array | undefined,
  { topK, choices, sequences, numExperts, counts }: Sizes,
): ExpertTotalsResult {
  const tokens = new Int32Array(sequences * numExperts);
  const dropped = new Int32Array(sequences);
  const sums = zeros(sequences, numExperts);
  const slotsPerSequence = ids.length / sequences;
  ids.forEach((expert, slot) => {
    if (slot % topK >= choices || !counts(Math.floor(slot / topK))) return;
    const sequence = Math.floor(slot / slotsPerSequence);
    if (expert < 0) {
      dropped[sequence] = (dropped[sequence] as number) + 1;
      return;
    }
    const cell = sequence * numExperts + expert;
    tokens[cell] = (tokens[cell] as number) + 1;
    sums.values[cell] = (sums.values[cell] as number) + (weights?.[slot] ?? 0);
  });
  return { tokens, dropped, sums };
}

export const runExpertTotals: Implementation<"expertTotals"> = (operands, stream) => {
  const { ids, weights, tokens, dropped, sums, choices } = operands;
  const [sequences, numExperts] = tokens.shape as [number, number];
  const topK = ids.shape[1] as number;
  const counts = tokenMask(operands.tokenMask);
  const isChecked = (token: number, choice: number) => choice < choices && counts(token);
  const checked = stream.checkIndices("expertTotals: ids", ids, "an expert", numExperts, isChecked);
  const result = expertTotals(checked, weights?.values(), { topK, choices, sequences, numExperts, counts });
  tokens.store(result.tokens);
  dropped.store(result.dropped);
  sums?.store(result.sums.values);
};
