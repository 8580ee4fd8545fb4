import { type Activation, type Clamp, isGated } from "../../core/activation.js";
import { erfc } from "../core/erf.js";
import type { Implementation } from "../core/implementation.js";
import { rowOf, zeros } from "../core/matrix.js";

type Unary = (x: number) => number;

/** x · σ(x), also called swish. Elfwing et al., arXiv 1702.03118. */
export const silu: Unary = (x) => x / (1 + Math.exp(-x));

/** x · Φ(x), where Φ is the normal distribution function. Hendrycks and Gimpel, arXiv 1606.08415. */
export const gelu: Unary = (x) => (x / 2) * erfc(-x * Math.SQRT1_2);

/** The same paper's tanh approximation. */
export const geluTanh: Unary = (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** max(x, 0); NaN stays NaN. */
export const relu: Unary = (x) => Math.max(x, 0);

/** The functions of values without a gate, and of gates. */
export const functions: Readonly<Record<Exclude<Activation, "swiglu_clamped">, Unary>> = {
  none: (x) => x,
  relu,
  relu2: (x) => relu(x) ** 2,
  gelu,
  gelu_tanh: geluTanh,
  silu,
  swiglu: silu,
  geglu: gelu,
  geglu_tanh: geluTanh,
};

/**
 * The activation of one row of the first product: act(row), or, for gated ones (GLU variants, arXiv 2002.05202),
 * act(gate) · up, where the row is I gate values followed by I up values.
 */
export function activate(activation: Activation, clamp: Clamp, row: Float64Array): Float64Array {
  if (!isGated(activation)) return row.map(functions[activation as keyof typeof functions]);
  const half = row.length / 2;
  const product =
    activation === "swiglu_clamped"
      ? (gate: number, up: number) => clampedSwiglu(gate, up, clamp)
      : (gate: number, up: number) => functions[activation as keyof typeof functions](gate) * up;
  return row.subarray(0, half).map((gate, column) => product(gate, row[half + column] as number));
}

/** g σ(alpha g) (u + offset), with the gate g clamped to at most `limit` and the up value u to ±limit: gpt-oss. */
function clampedSwiglu(gate: number, up: number, { alpha, limit, offset }: Clamp): number {
  const bounded = Math.min(gate, limit);
  return (bounded / (1 + Math.exp(-alpha * bounded))) * (Math.min(Math.max(up, -limit), limit) + offset);
}

export const runActivate: Implementation<"activate"> = ({ pre, multiplier, inner, activation, clamp }) => {
  const given = pre.matrix();
  const results = zeros(given.rows, inner.shape[1] as number);
  for (let row = 0; row < given.rows; row++) rowOf(results, row).set(activate(activation, clamp, rowOf(given, row)));
  const factors = multiplier?.values();
  inner.store(factors ? results.values.map((value, i) => value * (factors[i] as number)) : results.values);
};
