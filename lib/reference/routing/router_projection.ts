import type { Implementation } from "../core/implementation.js";
import { linear, type Matrix, rowOf, zeros } from "../core/matrix.js";

/** logits[t, e] = Σₕ x[t, h] · weight[e, h] + bias[e]. */
export function routerProjection(x: Matrix, weight: Matrix, bias: Float64Array | undefined): Matrix {
  const logits = zeros(x.rows, weight.rows);
  for (let token = 0; token < x.rows; token++) rowOf(logits, token).set(linear(rowOf(x, token), weight, bias));
  return logits;
}

export const runRouterProjection: Implementation<"routerProjection"> = ({ x, weight, bias, logits }) => {
  logits.store(routerProjection(x.matrix(), weight.matrix(), bias?.values()).values);
};
