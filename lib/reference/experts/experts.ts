import type { Activation, Clamp } from "../../core/layer/activation.js";
import type { Matrix } from "../core/matrix.js";

/** The weights [E, N, K] of all experts. */
export interface Experts {
  /** N: 2I if the activation is gated, gate rows first. */
  readonly rows: number;
  readonly activation: Activation;
  readonly clamp: Clamp;
  /** Expert e's weight [N, K]. */
  weight(expert: number): Matrix;
  /** The row of inputs that this weight multiplies, for a row of x. */
  input(expert: number, x: Float64Array): Float64Array;
}
