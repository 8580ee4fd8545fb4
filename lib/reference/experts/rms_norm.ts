import type { Implementation } from "../core/implementation.js";
import { type Matrix, rowOf, zeros } from "../core/matrix.js";

/** What brings a row to a root mean square of 1: 1 / √(mean(x²) + epsilon). */
function rowScale(row: Float64Array, epsilon: number): number {
  const sum = row.reduce((total, value) => total + value * value, 0);
  return 1 / Math.sqrt(sum / row.length + epsilon);
}

/** y[t] = x[t] · scale(x[t]) · factors. */
export function rmsNorm(x: Matrix, factors: Float64Array, epsilon: number): Matrix {
  const y = zeros(x.rows, x.columns);
  for (let token = 0; token < x.rows; token++) {
    const row = rowOf(x, token);
    const scale = rowScale(row, epsilon);
    rowOf(y, token).set(row.map((value, column) => value * scale * (factors[column] as number)));
  }
  return y;
}

export const runRmsNorm: Implementation<"rmsNorm"> = ({ x, weight, y, epsilon, offset }) => {
  const factors = weight.values().map((value) => value + offset);
  y.store(rmsNorm(x.matrix(), factors, epsilon).values);
};

export const runRmsNormBackward: Implementation<"rmsNormBackward"> = (operands) => {
  const { x, weight, dy, residual, dx, terms, epsilon, offset } = operands;
  const factors = weight.values().map((value) => value + offset);
  const [rows, gradients, added] = [x.matrix(), dy.matrix(), residual?.matrix()];
  const results = { dx: zeros(rows.rows, rows.columns), terms: zeros(rows.rows, rows.columns) };
  for (let token = 0; token < rows.rows; token++) {
    const [row, gradient] = [rowOf(rows, token), rowOf(gradients, token)];
    const scale = rowScale(row, epsilon);
    const normalised = row.map((value) => value * scale);
    const products = gradient.map((value, column) => value * (factors[column] as number));
    const mean = products.reduce((sum, value, column) => sum + value * (normalised[column] as number), 0) / row.length;
    const [dxRow, termsRow] = [rowOf(results.dx, token), rowOf(results.terms, token)];
    const residualRow = added && rowOf(added, token);
    normalised.forEach((value, column) => {
      dxRow[column] = scale * ((products[column] as number) - value * mean) + (residualRow?.[column] ?? 0);
      termsRow[column] = (gradient[column] as number) * value;
    });
  }
  dx?.store(results.dx.values);
  terms?.store(results.terms.values);
};
