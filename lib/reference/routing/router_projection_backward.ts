import type { Implementation } from "../core/implementation.js";
import { addScaled, type Matrix, rowOf, zeros } from "../core/matrix.js";

/** dx[t, h] = Σₑ dLogits[t, e] · weight[e, h]; dWeight[e, h] = Σₜ dLogits[t, e] · x[t, h]. */
export function routerProjectionBackward(x: Matrix, weight: Matrix, dLogits: Matrix): { dx: Matrix; dWeight: Matrix } {
  const dx = zeros(x.rows, x.columns);
  const dWeight = zeros(weight.rows, weight.columns);
  for (let token = 0; token < x.rows; token++) {
    rowOf(dLogits, token).forEach((dLogit, expert) => {
      addScaled(rowOf(dx, token), dLogit, rowOf(weight, expert));
      addScaled(rowOf(dWeight, expert), dLogit, rowOf(x, token));
    });
  }
  return { dx, dWeight };
}

export const runRouterProjectionBackward: Implementation<"routerProjectionBackward"> = (operands) => {
  const { x, weight, dLogits, dx, dWeight } = operands;
  const result = routerProjectionBackward(x.matrix(), weight.matrix(), dLogits.matrix());
  dx.store(result.dx.values);
  dWeight.store(result.dWeight.values);
};
