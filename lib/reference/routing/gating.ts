import type { Gating } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { scores, softmax } from "./scores.js";
import { choose } from "./selection.js";
import { sparsemixer } from "./sparsemixer.js";

/** The k experts of every token, best first, and their weights [T, k]. */
export interface GatingResult {
  readonly ids: Int32Array;
  readonly weights: Matrix;
  /** Number of rows without a finite logit. */
  readonly nonFiniteRows: number;
}

/** Gating and top-k; see lib/operators/routing/gating.ts. A row without a finite logit has weights 0. */
export function gating(logits: Matrix, rule: Gating, selectionBias?: Float64Array): GatingResult {
  const ids = new Int32Array(logits.rows * rule.topK);
  const weights = zeros(logits.rows, rule.topK);
  let nonFiniteRows = 0;
  for (let token = 0; token < logits.rows; token++) {
    const row = rowOf(logits, token);
    const { chosen, weights: chosenWeights } = route(row, rule, selectionBias);
    ids.set(chosen, token * rule.topK);
    if (!row.some(Number.isFinite)) {
      nonFiniteRows++;
      continue;
    }
    rowOf(weights, token).set(normalizedAndScaled(chosenWeights, rule));
  }
  return { ids, weights, nonFiniteRows };
}

/** The chosen experts of one row and their weights before normalisation. */
function route(logits: Float64Array, rule: Gating, bias: Float64Array | undefined) {
  if (rule.scoring === "sparsemixer") return sparsemixer(logits, rule.topK, rule.jitter);
  const rowScores = scores(rule.scoring, logits);
  const chosen = choose(selectionKeys(logits, rowScores, rule, bias), rule);
  const weights = rule.scoring === "softmax_selected" ? softmax(pick(logits, chosen)) : pick(rowScores, chosen);
  return { chosen, weights };
}

/**
 * The keys that experts are chosen by. Every score rises with its logit, so if keys are only compared with each other,
 * the logits themselves serve: they distinguish experts whose scores are equal in float32.
 */
function selectionKeys(
  logits: Float64Array,
  rowScores: Float64Array,
  { selectionKey, numGroups }: Gating,
  bias: Float64Array | undefined,
): Float64Array {
  if (bias === undefined && numGroups === 1) return logits;
  const base = selectionKey === "score" ? rowScores : scores("none", logits);
  return base.map((key, expert) => (Number.isNaN(logits[expert]) ? Number.NaN : key + (bias?.[expert] ?? 0)));
}

/** The weights of chosen experts from their scores. */
export function normalizedAndScaled(scores: Float64Array, rule: Gating): Float64Array {
  const divisor = divisorOf(scores, rule);
  return scores.map((score) => (divisor === 0 ? 0 : (score / divisor) * rule.scale));
}

/** What the chosen weights are divided by. */
export function divisorOf(weights: Float64Array, { normalization, epsilon, power }: Gating): number {
  if (normalization === "none") return 1;
  if (normalization === "lp") return lpNorm(weights, power);
  const sum = weights.reduce((a, b) => a + b, 0);
  if (normalization === "clamped_sum") return Math.max(sum, epsilon);
  return normalization === "sum_plus_epsilon" ? sum + epsilon : sum;
}

/** (Σ |w|^p)^(1/p), scaled by the largest so that nothing overflows. */
export function lpNorm(weights: Float64Array, power: number): number {
  const largest = weights.reduce((max, weight) => Math.max(max, Math.abs(weight)), 0);
  if (largest === 0) return 0;
  return largest * weights.reduce((sum, weight) => sum + (Math.abs(weight) / largest) ** power, 0) ** (1 / power);
}

function pick(values: Float64Array, indices: Int32Array): Float64Array {
  return Float64Array.from(indices, (index) => values[index] as number);
}

export const runGating: Implementation<"gating"> = ({ logits, selectionBias, ids, weights, rule }, stream) => {
  const result = gating(logits.matrix(), rule, selectionBias?.values());
  stream.nonFiniteLogitRows += result.nonFiniteRows;
  ids.store(result.ids);
  weights.store(result.weights.values);
};
