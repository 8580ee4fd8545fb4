import type { Gating } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { divisorOf, lpNorm, normalizedAndScaled } from "./gating.js";
import { scores, softmax, sqrtSoftplusSlope } from "./scores.js";
import { nearSoftmax } from "./sparsemixer.js";

/** A token's choices that have an expert: their experts, and the gradients of their weights. */
interface Choices {
  readonly experts: readonly number[];
  readonly dWeights: Float64Array;
}

/** The gradient of a gate's logits; see lib/operators/routing/gating_backward.ts. `ids` [T, k] must be checked. */
export function gatingBackward(logits: Matrix, ids: Int32Array, dWeights: Matrix, rule: Gating): Matrix {
  const dLogits = zeros(logits.rows, logits.columns);
  for (let token = 0; token < logits.rows; token++) {
    const slots = [...Array(rule.topK).keys()].filter((slot) => (ids[token * rule.topK + slot] as number) >= 0);
    const choices = {
      experts: slots.map((slot) => ids[token * rule.topK + slot] as number),
      dWeights: Float64Array.from(slots, (slot) => rowOf(dWeights, token)[slot] as number),
    };
    rowOf(dLogits, token).set(gateGradient(rowOf(logits, token), choices, rule));
  }
  return dLogits;
}

/** The weights of one token's choices. */
export function fixedWeights(logits: Float64Array, experts: readonly number[], rule: Gating): Float64Array {
  if (!logits.some(Number.isFinite)) return new Float64Array(experts.length);
  return normalizedAndScaled(chosenScores(logits, experts, rule), rule);
}

/** The gradient of one token's logits. Those that are not finite are constants. */
export function gateGradient(logits: Float64Array, { experts, dWeights }: Choices, rule: Gating): Float64Array {
  const chosen = chosenScores(logits, experts, rule);
  const divisor = divisorOf(chosen, rule);
  if (divisor === 0 || !logits.some(Number.isFinite)) return new Float64Array(logits.length);
  const dScores = scoreGradients(chosen, dWeights, divisor, rule);
  return throughScores(logits, experts, dScores, rule).map((value, e) =>
    Number.isFinite(logits[e] as number) ? value : 0,
  );
}

/** The scores of the chosen experts before normalisation. */
function chosenScores(logits: Float64Array, experts: readonly number[], rule: Gating): Float64Array {
  if (rule.scoring === "softmax_selected") return softmax(Float64Array.from(experts, (e) => logits[e] as number));
  if (rule.scoring === "sparsemixer") {
    return Float64Array.from(experts, (e, slot) => sparsemixerSoftmax(logits, experts, slot, rule)[e] as number);
  }
  const all = scores(rule.scoring, logits);
  return Float64Array.from(experts, (e) => all[e] as number);
}

/** From weightᵢ = scale * scoreᵢ / divisor(scores). A constant divisor passes nothing on, not even NaN. */
function scoreGradients(chosen: Float64Array, dWeights: Float64Array, divisor: number, rule: Gating): Float64Array {
  const dDivisor = -chosen.reduce((sum, score, i) => sum + score * (dWeights[i] as number), 0) / divisor;
  const slopes = divisorSlopes(chosen, rule);
  return dWeights.map((dWeight, i) => {
    const slope = slopes[i] as number;
    return (rule.scale / divisor) * (slope === 0 ? dWeight : dWeight + dDivisor * slope);
  });
}

/** The derivatives of the divisor by the scores. */
function divisorSlopes(chosen: Float64Array, { normalization, epsilon, power }: Gating): Float64Array {
  switch (normalization) {
    case "sum":
    case "sum_plus_epsilon":
      return chosen.map(() => 1);
    case "clamped_sum":
      return chosen.map(() => (chosen.reduce((a, b) => a + b, 0) > epsilon ? 1 : 0));
    case "lp": {
      const norm = lpNorm(chosen, power);
      return chosen.map((s) => (s === 0 ? 0 : Math.sign(s) * (Math.abs(s) / norm) ** (power - 1)));
    }
    default:
      return chosen.map(() => 0);
  }
}

/** The gradients of the logits from those of the chosen scores. */
function throughScores(
  logits: Float64Array,
  experts: readonly number[],
  dScores: Float64Array,
  rule: Gating,
): Float64Array {
  const dLogits = new Float64Array(logits.length);
  const add = (expert: number, value: number) => {
    dLogits[expert] = (dLogits[expert] as number) + value;
  };
  switch (rule.scoring) {
    case "softmax": {
      const dAll = new Float64Array(logits.length);
      for (const [i, e] of experts.entries()) dAll[e] = (dAll[e] as number) + (dScores[i] as number);
      return throughSoftmax(softmax(logits), dAll);
    }
    case "softmax_selected": {
      const shares = softmax(Float64Array.from(experts, (e) => logits[e] as number));
      for (const [i, value] of throughSoftmax(shares, dScores).entries()) add(experts[i] as number, value);
      return dLogits;
    }
    case "sparsemixer":
      experts.forEach((e, slot) => {
        const dShares = new Float64Array(logits.length);
        dShares[e] = dScores[slot] as number;
        throughSoftmax(sparsemixerSoftmax(logits, experts, slot, rule), dShares).forEach((value, i) => {
          add(i, value);
        });
      });
      return dLogits;
    default:
      for (const [i, e] of experts.entries())
        add(e, (dScores[i] as number) * scoreSlope(rule.scoring, logits[e] as number));
      return dLogits;
  }
}

/** From the gradients of the shares pᵢ of a softmax: pᵢ (dᵢ - Σ p d). */
export function throughSoftmax(shares: Float64Array, dShares: Float64Array): Float64Array {
  const mean = shares.reduce((sum, share, i) => sum + share * (dShares[i] as number), 0);
  return shares.map((share, i) => share * ((dShares[i] as number) - mean));
}

/** The derivative of a score that depends on its own logit alone. */
function scoreSlope(scoring: "sigmoid" | "sqrt_softplus" | "none", logit: number): number {
  if (scoring === "sigmoid") return 1 / (1 + Math.exp(-logit)) / (1 + Math.exp(logit));
  return scoring === "none" ? 1 : sqrtSoftplusSlope(logit);
}

/** SparseMixer's softmax for a slot, over what the slots before it left. */
function sparsemixerSoftmax(
  logits: Float64Array,
  experts: readonly number[],
  slot: number,
  rule: Gating,
): Float64Array {
  const taken = experts.slice(0, slot);
  return nearSoftmax(
    logits.map((logit, e) => (taken.includes(e) || Number.isNaN(logit) ? -Infinity : logit)),
    rule.jitter,
  );
}

export const runGatingBackward: Implementation<"gatingBackward"> = (
  { logits, ids, dWeights, dLogits, rule },
  stream,
) => {
  const experts = logits.shape[1] as number;
  const chosen = stream.checkIndices("gatingBackward: routing.ids", ids, "an expert", experts);
  dLogits.store(gatingBackward(logits.matrix(), chosen, dWeights.matrix(), rule).values);
};
