import { type FloatDType, linear, type PackedExperts, rmsNorm, type Tensor } from "moe-kernels";

/** A projection, with a bias and a norm of what it gives in families that have them. */
export interface Projection extends Disposable {
  readonly weight: PackedExperts;
  readonly bias: Tensor<FloatDType> | undefined;
  /** As wide as a row, or as each of its heads. */
  readonly norm: Tensor<FloatDType> | undefined;
}

/** @param x [T, K]. @param epsilon of the norm. @returns [T, N]. */
export function project(x: Tensor<"f32">, { weight, bias, norm }: Projection, epsilon: number): Tensor<"f32"> {
  if (norm === undefined) return linear(x, weight, { bias });
  using projected = linear(x, weight, { bias });
  using rows = projected.reshape([projected.size / norm.size, norm.size]);
  using normed = rmsNorm(rows, norm, { epsilon });
  return normed.reshape(projected.shape);
}
