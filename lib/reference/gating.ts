import type { Gating } from "../backend.js";
import { type Matrix, rowOf, zeros } from "./matrix.js";

/** The k experts of every token, best first, and their weights [T, k]. */
export interface GatingResult {
  readonly ids: Int32Array;
  readonly weights: Matrix;
  /** Rows without any finite logit. */
  readonly nonFiniteRows: number;
}

/**
 * Gating and top-k. Softmax keeps the order, so under either scoring the choice is made by the logits: the largest
 * first, equal ones in order of id, NaN last. A row without any finite logit has weights 0.
 */
export function gating(logits: Matrix, { topK, scoring, normalize, scale }: Gating): GatingResult {
  const ids = new Int32Array(logits.rows * topK);
  const weights = zeros(logits.rows, topK);
  let nonFiniteRows = 0;
  for (let token = 0; token < logits.rows; token++) {
    const row = rowOf(logits, token);
    const chosen = ranking(row).subarray(0, topK);
    ids.set(chosen, token * topK);
    if (!row.some(Number.isFinite)) {
      nonFiniteRows++;
      continue;
    }
    const scores = scoring === "softmax" ? pick(softmax(row), chosen) : softmax(pick(row, chosen));
    const divisor = normalize ? scores.reduce((sum, score) => sum + score) : 1;
    const scaled = scores.map((score) => (score / divisor) * scale);
    rowOf(weights, token).set(scaled);
  }
  return { ids, weights, nonFiniteRows };
}

/** Expert ids from the largest logit to the smallest; the sort is stable, so equal ones stay in order of id. */
function ranking(logits: Float64Array): Int32Array {
  const experts = Int32Array.from(logits.keys());
  return experts.sort((a, b) => descending(logits[a] as number, logits[b] as number));
}

function descending(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (a === b) return 0;
  return a > b ? -1 : 1;
}

function pick(values: Float64Array, indices: Int32Array): Float64Array {
  return Float64Array.from(indices, (index) => values[index] as number);
}

/**
 * exp(x - max) / Σ exp(x - max). NaN counts as -Infinity, which gives 0; +Infinity takes everything, in equal shares where
 * there are several.
 */
function softmax(logits: Float64Array): Float64Array {
  const ordered = logits.map((logit) => (Number.isNaN(logit) ? -Infinity : logit));
  const max = ordered.reduce((a, b) => Math.max(a, b));
  const exponentials = ordered.map((logit) => (logit === max ? 1 : Math.exp(logit - max)));
  const sum = exponentials.reduce((a, b) => a + b);
  return exponentials.map((exponential) => exponential / sum);
}
