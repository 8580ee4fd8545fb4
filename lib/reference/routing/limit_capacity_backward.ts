import type { KeptDivisor } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";

/** One token's choices, and which of them were kept. */
interface Choices {
  readonly chosen: readonly boolean[];
  readonly kept: readonly boolean[];
}

/** The gradient of the weights before choices were dropped; see lib/operators/routing/limit_capacity_backward.ts. */
export function limitCapacityBackward(
  ids: Int32Array,
  weights: Matrix,
  keptIds: Int32Array,
  dKeptWeights: Matrix,
  divisor: KeptDivisor,
  scale: number,
): Matrix {
  const topK = weights.columns;
  const dWeights = zeros(weights.rows, topK);
  for (let token = 0; token < weights.rows; token++) {
    const has = (all: Int32Array) => Array.from({ length: topK }, (_, j) => (all[token * topK + j] as number) >= 0);
    const choices = { chosen: has(ids), kept: has(keptIds) };
    const gradients = rowOf(dKeptWeights, token).map((value, j) => (choices.kept[j] ? value : 0));
    rowOf(dWeights, token).set(tokenGradient(choices, rowOf(weights, token), gradients, divisor, scale));
  }
  return dWeights;
}

/** From keptⱼ = scale · weightⱼ / sum for the kept choices, where the sum is over all kept or all chosen ones. */
function tokenGradient(
  { chosen, kept }: Choices,
  weights: Float64Array,
  gradients: Float64Array,
  divisor: KeptDivisor,
  scale: number,
): Float64Array {
  const divided = divisor === "kept" ? kept : chosen;
  const sum = weights.reduce((total, weight, j) => (divided[j] ? total + weight : total), 0);
  if (divisor === "none" || sum === 0) return gradients;
  const mean =
    weights.reduce((total, weight, j) => (kept[j] ? total + weight * (gradients[j] as number) : total), 0) / sum;
  return gradients.map((gradient, j) => (divided[j] ? ((gradient - mean) * scale) / sum : 0));
}

export const runLimitCapacityBackward: Implementation<"limitCapacityBackward"> = (operands) => {
  const { ids, weights, keptIds, dKeptWeights, dWeights, divisor, scale } = operands;
  const given = [ids.integers(), weights.matrix(), keptIds.integers(), dKeptWeights.matrix()] as const;
  dWeights.store(limitCapacityBackward(...given, divisor, scale).values);
};
