import type { Gating } from "../../core/layer/routing_rule.js";
import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";
import { fixedWeights } from "./gating_backward.js";

/** The weights of choices `ids` [T, k], which must be checked; see lib/operators/routing/gating_weights.ts. */
export function gatingWeights(logits: Matrix, ids: Int32Array, rule: Gating): Matrix {
  const weights = zeros(logits.rows, rule.topK);
  for (let token = 0; token < logits.rows; token++) {
    const chosen = ids.subarray(token * rule.topK, (token + 1) * rule.topK);
    const slots = [...chosen.keys()].filter((slot) => (chosen[slot] as number) >= 0);
    const experts = slots.map((slot) => chosen[slot] as number);
    const own = fixedWeights(rowOf(logits, token), experts, rule);
    slots.forEach((slot, index) => {
      rowOf(weights, token)[slot] = own[index] as number;
    });
  }
  return weights;
}

export const runGatingWeights: Implementation<"gatingWeights"> = ({ logits, ids, weights, rule }, stream) => {
  const chosen = stream.checkIndices("gatingWeights: routing.ids", ids, "an expert", logits.shape[1] as number);
  const matrix = logits.matrix();
  for (let token = 0; token < matrix.rows; token++) {
    if (!rowOf(matrix, token).some(Number.isFinite)) stream.nonFiniteLogitRows++;
  }
  weights.store(gatingWeights(matrix, chosen, rule).values);
};
