import {
  type Activation,
  type Clamp,
  type ClampedActivation,
  isClamped,
  isGated,
} from "../../core/layer/activation.js";
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
export const functions: Readonly<Record<Exclude<Activation, ClampedActivation>, Unary>> = {
  none: (x) => x,
  relu,
  relu2: (x) => relu(x) ** 2,
  gelu,
  gelu_tanh: geluTanh,
  silu,
  swiglu: silu,
  geglu: gelu,
  geglu_tanh: geluTanh,
  reglu: relu,
};

/**
 * The activation of one row of the first product: act(row), or, for gated ones (GLU variants, arXiv 2002.05202),
 * act(gate) · up, where the row is I gate values followed by I up values.
 */
export function activate(activation: Activation, clamp: Clamp, row: Float64Array): Float64Array {
  if (!isGated(activation)) return row.map(functions[activation as keyof typeof functions]);
  const half = row.length / 2;
  const product = isClamped(activation)
    ? (gate: number, up: number) =>
        gates[activation](gate, clamp) * (limitedUp(activation, up, clamp.upLimit) + clamp.offset)
    : (gate: number, up: number) => functions[activation as keyof typeof functions](gate) * up;
  return row.subarray(0, half).map((gate, column) => product(gate, row[half + column] as number));
}

/** g σ(alpha g): SiLU for an alpha of 1. */
const scaledSilu = (gate: number, alpha: number) => gate / (1 + Math.exp(-alpha * gate));

/** limit tanh(x / limit): about x near 0, and never beyond ±limit. */
export const softly = (x: number, limit: number) =>
  limit === Number.POSITIVE_INFINITY ? x : limit * Math.tanh(x / limit);

/** What the activations with a clamp make of a gate; see lib/core/layer/activation.ts. */
export const gates: Readonly<Record<ClampedActivation, (gate: number, clamp: Clamp) => number>> = {
  swiglu_clamped: (gate, { alpha, limit }) => scaledSilu(Math.min(gate, limit), alpha),
  swiglu_clamped_after: (gate, { alpha, limit }) => Math.min(scaledSilu(gate, alpha), limit),
  situ: (gate, { alpha, limit }) => softly(gate, limit) / (1 + Math.exp(-alpha * gate)),
};

/** The same of an up value, before the offset is added. */
export function limitedUp(activation: ClampedActivation, up: number, limit: number): number {
  return activation === "situ" ? softly(up, limit) : Math.min(Math.max(up, -limit), limit);
}

/** The clamp of every row of an activation's operands. */
export function clampOfRow({ clamp, sharedClamp, sharedExperts, offsets }: RowClamps): (row: number) => Clamp {
  const starts = offsets?.values();
  const firstShared = starts?.[starts.length - 1 - sharedExperts] ?? Number.POSITIVE_INFINITY;
  return (row) => (row < firstShared ? clamp : sharedClamp);
}

type RowClamps = Pick<Parameters<Implementation<"activate">>[0], "clamp" | "sharedClamp" | "sharedExperts" | "offsets">;

export const runActivate: Implementation<"activate"> = (operands) => {
  const { pre, multiplier, inner, activation } = operands;
  const given = pre.matrix();
  const results = zeros(given.rows, inner.shape[1] as number);
  const clampAt = clampOfRow(operands);
  for (let row = 0; row < given.rows; row++) {
    rowOf(results, row).set(activate(activation, clampAt(row), rowOf(given, row)));
  }
  const factors = multiplier?.values();
  inner.store(factors ? results.values.map((value, i) => value * (factors[i] as number)) : results.values);
};
