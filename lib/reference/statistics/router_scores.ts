import type { ExpertScoring } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { scores } from "../routing/scores.js";

/** Scores [T, E], log-sum-exp [T] and entropy [T] of a router's logits. */
export interface RouterScoresResult {
  readonly scores: Matrix;
  readonly logSumExp: Float64Array;
  readonly entropy: Float64Array;
}

/** See lib/operators/statistics/router_scores.ts. */
export function routerScores(logits: Matrix, scoring: ExpertScoring, normalize: boolean): RouterScoresResult {
  const result = zeros(logits.rows, logits.columns);
  const logSumExp = new Float64Array(logits.rows);
  const entropy = new Float64Array(logits.rows);
  for (let token = 0; token < logits.rows; token++) {
    const row = rowOf(logits, token);
    const rowScores = scores(scoring, row);
    const sum = rowScores.reduce((a, b) => a + b, 0);
    const divisor = normalize ? sum : 1;
    rowOf(result, token).set(rowScores.map((score) => (divisor === 0 ? 0 : score / divisor)));
    logSumExp[token] = logSumExpOf(row);
    entropy[token] = entropyOf(scores("softmax", row));
  }
  return { scores: result, logSumExp, entropy };
}

/** ln Σ exp(x), relative to the largest; NaN counts as -Infinity. */
function logSumExpOf(logits: Float64Array): number {
  const ordered = logits.map((logit) => (Number.isNaN(logit) ? -Infinity : logit));
  const largest = ordered.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!Number.isFinite(largest)) return largest;
  return largest + Math.log(ordered.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
}

/** -Σ p ln p; a probability of 0 adds nothing. */
function entropyOf(probabilities: Float64Array): number {
  return probabilities.reduce(
    (sum, probability) => (probability > 0 ? sum - probability * Math.log(probability) : sum),
    0,
  );
}

export const runRouterScores: Implementation<"routerScores"> = (operands) => {
  const result = routerScores(operands.logits.matrix(), operands.scoring, operands.normalize);
  operands.scores?.store(result.scores.values);
  operands.logSumExp?.store(result.logSumExp);
  operands.entropy?.store(result.entropy);
};
