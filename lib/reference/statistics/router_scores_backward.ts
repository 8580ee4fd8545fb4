import type { ExpertScoring } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { throughSoftmax } from "../routing/gating_backward.js";
import { scores, softmax } from "../routing/scores.js";

/** The gradients of routerScores' results; those that are missing are 0. */
interface ScoreGradients {
  readonly scores: Matrix | undefined;
  readonly logSumExp: Float64Array | undefined;
  readonly entropy: Float64Array | undefined;
}

/** See lib/operators/statistics/router_scores_backward.ts. */
export function routerScoresBackward(
  logits: Matrix,
  gradients: ScoreGradients,
  scoring: ExpertScoring,
  normalize: boolean,
): Matrix {
  const dLogits = zeros(logits.rows, logits.columns);
  for (let token = 0; token < logits.rows; token++) {
    const row = rowOf(logits, token);
    const shares = softmax(row);
    const ofScores = gradients.scores && throughScores(row, rowOf(gradients.scores, token), scoring, normalize);
    const dLogSumExp = gradients.logSumExp?.[token] ?? 0;
    const dEntropy = gradients.entropy?.[token] ?? 0;
    const entropy = shares.reduce((sum, share) => sum - timesLog(share), 0);
    rowOf(dLogits, token).set(
      shares.map((share, e) => {
        if (!Number.isFinite(row[e] as number)) return 0;
        // ∂ logSumExp / ∂ logit = p, ∂ entropy / ∂ logit = -p (ln p + entropy).
        const others = share === 0 ? 0 : share * dLogSumExp - (timesLog(share) + share * entropy) * dEntropy;
        return (ofScores?.[e] ?? 0) + others;
      }),
    );
  }
  return dLogits;
}

/** p ln p; 0 for p = 0. */
function timesLog(share: number): number {
  return share > 0 ? share * Math.log(share) : 0;
}

function throughScores(
  row: Float64Array,
  dScores: Float64Array,
  scoring: ExpertScoring,
  normalize: boolean,
): Float64Array {
  const own = scores(scoring, row);
  if (scoring === "softmax") return throughSoftmax(own, dScores);
  const sum = own.reduce((a, b) => a + b, 0);
  if (normalize && sum === 0) return new Float64Array(row.length);
  const mean = own.reduce((total, score, e) => total + score * (dScores[e] as number), 0) / sum;
  return own.map((score, e) => {
    const dScore = normalize ? ((dScores[e] as number) - mean) / sum : (dScores[e] as number);
    return (score * dScore) / (1 + Math.exp(row[e] as number));
  });
}

export const runRouterScoresBackward: Implementation<"routerScoresBackward"> = (operands) => {
  const gradients = {
    scores: operands.dScores?.matrix(),
    logSumExp: operands.dLogSumExp?.values(),
    entropy: operands.dEntropy?.values(),
  };
  const { logits, dLogits, scoring, normalize } = operands;
  dLogits.store(routerScoresBackward(logits.matrix(), gradients, scoring, normalize).values);
};
