import { softmax } from "./scores.js";
import { ranking } from "./selection.js";

/**
 * SparseMixer's choice at inference (Phi-3.5-MoE, arXiv 2409.12136): the best expert, then the best of the rest, and so
 * on. Each weight is the softmax over the remaining experts within 2 * jitter of the best, relative to the larger of
 * the best logit and their own magnitude. NaN counts as -Infinity.
 */
export function sparsemixer(
  logits: Float64Array,
  topK: number,
  jitter: number,
): { chosen: Int32Array; weights: Float64Array } {
  const chosen = ranking(logits).subarray(0, topK);
  const left = logits.map((logit) => (Number.isNaN(logit) ? -Infinity : logit));
  const weights = Float64Array.from(chosen, (expert) => {
    const weight = nearSoftmax(left, jitter)[expert] as number;
    left[expert] = -Infinity;
    return weight;
  });
  return { chosen, weights };
}

/** The softmax over the logits near the largest; -Infinity is no logit. */
export function nearSoftmax(left: Float64Array, jitter: number): Float64Array {
  const best = left.reduce((a, b) => Math.max(a, b), -Infinity);
  return softmax(
    left.map((logit) => ((best - logit) / Math.max(Math.abs(logit), best) > 2 * jitter ? -Infinity : logit)),
  );
}
