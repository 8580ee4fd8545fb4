import { relativeError } from "../../lib/testing/difference.js";

/** How far each value is moved; the differences of a loss of order 1 are then good to about 1e-9. */
const step = 1e-5;

/** The gradient of `loss` at `values`, by central differences; the loss must be computed in float64. */
export function centralDifferences(values: Float64Array, loss: (values: Float64Array) => number): Float64Array {
  return values.map((value, index) => {
    const moved = (by: number) => loss(values.map((other, i) => (i === index ? value + by : other)));
    return (moved(step) - moved(-step)) / (2 * step);
  });
}

/**
 * The largest difference between a gradient and the central differences of `loss`, relative to the largest of these or
 * to 1 if that is larger.
 */
export function gradientError(
  gradient: ArrayLike<number>,
  values: Float64Array,
  loss: (values: Float64Array) => number,
): number {
  return relativeError(gradient, centralDifferences(values, loss), 1);
}

/** Σ a · b: the loss whose gradient by `a` is `b`. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  return Array.from(a).reduce((sum, value, index) => sum + value * (b[index] as number), 0);
}
