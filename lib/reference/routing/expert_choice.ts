import type { ExpertScoring } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { scores } from "./scores.js";
import { ranking } from "./selection.js";

/** Every expert's tokens [E, C], best first, and the same choices by token [T, E]. */
export interface ExpertChoiceResult {
  readonly tokens: Int32Array;
  readonly tokenWeights: Matrix;
  readonly ids: Int32Array;
  readonly weights: Matrix;
  /** Number of rows without a finite logit. */
  readonly nonFiniteRows: number;
}

/** Every expert takes `capacity` tokens; see lib/operators/routing/expert_choice.ts. */
export function expertChoice(logits: Matrix, capacity: number, scoring: ExpertScoring): ExpertChoiceResult {
  const { rows: numTokens, columns: numExperts } = logits;
  const keys = zeros(numTokens, numExperts);
  let nonFiniteRows = 0;
  for (let token = 0; token < numTokens; token++) {
    const row = rowOf(logits, token);
    const finite = row.some(Number.isFinite);
    if (!finite) nonFiniteRows++;
    const rowScores = scores(scoring, row);
    rowOf(keys, token).set(rowScores.map((score, e) => (finite && !Number.isNaN(row[e]) ? score : Number.NaN)));
  }

  const tokens = new Int32Array(numExperts * capacity);
  const tokenWeights = zeros(numExperts, capacity);
  const ids = new Int32Array(numTokens * numExperts).fill(-1);
  const weights = zeros(numTokens, numExperts);
  for (let expert = 0; expert < numExperts; expert++) {
    const column = Float64Array.from({ length: numTokens }, (_, token) => rowOf(keys, token)[expert] as number);
    ranking(column)
      .subarray(0, capacity)
      .forEach((token, place) => {
        const weight = Number.isNaN(column[token]) ? 0 : (column[token] as number);
        tokens[expert * capacity + place] = token;
        rowOf(tokenWeights, expert)[place] = weight;
        ids[token * numExperts + expert] = expert;
        rowOf(weights, token)[expert] = weight;
      });
  }
  return { tokens, tokenWeights, ids, weights, nonFiniteRows };
}

export const runExpertChoice: Implementation<"expertChoice"> = (
  { logits, tokens, tokenWeights, ids, weights, scoring },
  stream,
) => {
  const result = expertChoice(logits.matrix(), tokens.shape[1] as number, scoring);
  stream.nonFiniteLogitRows += result.nonFiniteRows;
  tokens.store(result.tokens);
  tokenWeights.store(result.tokenWeights.values);
  ids.store(result.ids);
  weights.store(result.weights.values);
};
