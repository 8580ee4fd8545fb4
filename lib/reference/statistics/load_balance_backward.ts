import type { Implementation } from "../core/implementation.js";

/** From the loss that is scale * the mean of Σ tokens * means / counts over the sequences with a count. */
export const runBalanceLossBackward: Implementation<"balanceLossBackward"> = ({ tokens, counts, dMeans, scale }) => {
  const experts = tokens.shape[1] as number;
  const rows = counts.integers();
  const counted = rows.filter((count) => count !== 0).length;
  const countOf = (cell: number) => rows[Math.floor(cell / experts)] as number;
  const gradient = Float64Array.from(tokens.integers(), (chose, cell) =>
    countOf(cell) === 0 ? 0 : (scale * chose) / countOf(cell) / counted,
  );
  dMeans.store(gradient);
};

/** From variance / (mean² + epsilon), where the variance is Σ (value - mean)² / divisor. */
export const runCvSquaredBackward: Implementation<"cvSquaredBackward"> = (operands) => {
  const { dValues, unbiased, epsilon, scale } = operands;
  const values = operands.values.values();
  const { length } = values;
  const divisor = length - (unbiased ? 1 : 0);
  if (divisor <= 0) {
    dValues.store(new Float64Array(length));
    return;
  }
  const mean = values.reduce((a, b) => a + b, 0) / length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / divisor;
  const square = mean ** 2 + epsilon;
  const gradient = values.map(
    (value) => (2 * (value - mean)) / divisor / square - ((2 * mean) / length) * (variance / square ** 2),
  );
  dValues.store(gradient.map((slope) => scale * slope));
};
