import type { Scoring } from "../../core/layer/routing_rule.js";

const largestFloat32 = 2 ** 128 - 2 ** 104;

/** The scores of one row of logits, by which experts are chosen. NaN scores 0. */
export function scores(scoring: Scoring, logits: Float64Array): Float64Array {
  switch (scoring) {
    case "softmax":
      return softmax(logits);
    case "sigmoid":
      return logits.map((logit) => (Number.isNaN(logit) ? 0 : 1 / (1 + Math.exp(-logit))));
    case "sqrt_softplus":
      return finite(logits).map((logit, expert) => (Number.isNaN(logits[expert]) ? 0 : sqrtSoftplus(logit)));
    default:
      return finite(logits);
  }
}

/** ln(1 + eˣ). */
export function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** Below it, ln(1 + eˣ) is eˣ to the last bit. */
const exponentialSoftplus = -40;

/** √ln(1 + eˣ). */
function sqrtSoftplus(x: number): number {
  return x < exponentialSoftplus ? Math.exp(x / 2) : Math.sqrt(softplus(x));
}

/** The derivative of √ln(1 + eˣ). */
export function sqrtSoftplusSlope(x: number): number {
  return x < exponentialSoftplus ? Math.exp(x / 2) / 2 : 1 / (1 + Math.exp(-x)) / (2 * sqrtSoftplus(x));
}

/** An infinite logit counts as the largest float32, NaN as 0. */
function finite(logits: Float64Array): Float64Array {
  return logits.map((logit) => (Number.isNaN(logit) ? 0 : Math.min(Math.max(logit, -largestFloat32), largestFloat32)));
}

/**
 * exp(x - max) / Σ exp(x - max). NaN counts as -Infinity, which gives 0; +Infinity takes everything, shared equally if
 * there are several. All 0 if nothing is above -Infinity.
 */
export function softmax(logits: Float64Array): Float64Array {
  const ordered = logits.map((logit) => (Number.isNaN(logit) ? -Infinity : logit));
  const max = ordered.reduce((a, b) => Math.max(a, b), -Infinity);
  if (max === -Infinity) return ordered.fill(0);
  const exponentials = ordered.map((logit) => (logit === max ? 1 : Math.exp(logit - max)));
  const sum = exponentials.reduce((a, b) => a + b);
  return exponentials.map((exponential) => exponential / sum);
}
