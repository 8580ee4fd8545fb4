import {
  type Activation,
  type Clamp,
  type ClampedActivation,
  isClamped,
  isGated,
} from "../../core/layer/activation.js";
import { erfc } from "../core/erf.js";
import type { Implementation } from "../core/implementation.js";
import { zeros } from "../core/matrix.js";
import { clampOfRow, functions, gates, limitedUp, softly } from "./activation.js";

type Unary = (x: number) => number;

/** x, limited to where every share below is 0 or 1 in float64, because x may be infinite where its derivative is 0. */
const limited: Unary = (x) => Math.min(Math.max(x, -1000), 1000);

const sigmoid: Unary = (x) => 1 / (1 + Math.exp(-x));

/** The derivative of x · σ(u(x)): σ(u) + x σ(u) (1 - σ(u)) u'. */
function logisticSlope(x: number, exponent: number, slope: number): number {
  const share = sigmoid(exponent);
  return share + x * slope * share * (1 - share);
}

const silu: Unary = (x) => logisticSlope(limited(x), limited(x), 1);

/** Φ(x) + x φ(x). */
const gelu: Unary = (x) => erfc(-x * Math.SQRT1_2) / 2 + (limited(x) * Math.exp(-(x * x) / 2)) / Math.sqrt(2 * Math.PI);

/** x/2 (1 + tanh u) = x σ(2u). */
const geluTanh: Unary = (x) => {
  const near = limited(x);
  const factor = 2 * Math.sqrt(2 / Math.PI);
  return logisticSlope(near, factor * (near + 0.044715 * near ** 3), factor * (1 + 3 * 0.044715 * near ** 2));
};

/** 0 at 0; NaN stays NaN. */
const relu: Unary = (x) => (Number.isNaN(x) ? x : x > 0 ? 1 : 0);

const relu2: Unary = (x) => 2 * functions.relu(x);

const derivatives: Readonly<Record<Exclude<Activation, ClampedActivation>, Unary>> = {
  none: () => 1,
  relu,
  relu2,
  gelu,
  gelu_tanh: geluTanh,
  silu,
  swiglu: silu,
  geglu: gelu,
  geglu_tanh: geluTanh,
  reglu: relu,
};

/** What an activation multiplies, with derivatives: act(gate) and what up makes of it. Without a gate, up is 1. */
interface Parts {
  readonly value: number;
  readonly slope: number;
  readonly factor: number;
  readonly factorSlope: number;
}

function partsOf(activation: Activation, clamp: Clamp, gate: number, up: number): Parts {
  if (!isClamped(activation)) {
    return { value: functions[activation](gate), slope: derivatives[activation](gate), factor: up, factorSlope: 1 };
  }
  const { upLimit, offset } = clamp;
  const isWithin = !(up < -upLimit || up > upLimit);
  return {
    value: gates[activation](gate, clamp),
    slope: gateSlopes[activation](gate, clamp),
    factor: limitedUp(activation, up, upLimit) + offset,
    factorSlope: activation === "situ" ? softSlope(up, upLimit) : Number(isWithin),
  };
}

/** The derivative of limit tanh(x / limit). */
const softSlope = (x: number, limit: number) =>
  limit === Number.POSITIVE_INFINITY ? 1 : 1 - Math.tanh(x / limit) ** 2;

const gateSlopes: Readonly<Record<ClampedActivation, (gate: number, clamp: Clamp) => number>> = {
  swiglu_clamped: (gate, { alpha, limit }) => {
    const exponent = limited(alpha * Math.min(gate, limit));
    return gate > limit ? 0 : logisticSlope(exponent, exponent, 1);
  },
  swiglu_clamped_after: (gate, { alpha, limit }) => {
    const exponent = limited(alpha * gate);
    return gate * sigmoid(alpha * gate) > limit ? 0 : logisticSlope(exponent, exponent, 1);
  },
  situ: (gate, { alpha, limit }) => {
    const share = sigmoid(alpha * gate);
    return softSlope(gate, limit) * share + limited(alpha * softly(gate, limit)) * share * (1 - share);
  },
};

/** See lib/operators/experts/activation_backward.ts. */
export const runActivationBackward: Implementation<"activationBackward"> = (operands) => {
  const { activation, pre, dInner } = operands;
  const clampAt = clampOfRow(operands);
  const [given, gradient, multiplier] = [pre.matrix(), dInner.matrix(), operands.multiplier?.values()];
  const { rows, columns } = gradient;
  const gated = isGated(activation);
  const dPre = zeros(rows, given.columns);
  const dMultiplier = zeros(rows, columns);
  const inner = zeros(rows, columns);
  gradient.values.forEach((dInnerValue, i) => {
    const gateAt = Math.floor(i / columns) * given.columns + (i % columns);
    const upAt = gateAt + columns;
    const up = gated ? (given.values[upAt] as number) : 1;
    const { value, slope, factor, factorSlope } = partsOf(
      activation,
      clampAt(Math.floor(i / columns)),
      given.values[gateAt] as number,
      up,
    );
    const by = multiplier?.[i] ?? 1;
    const product = value * factor;
    dPre.values[gateAt] = dInnerValue * by * (slope * factor);
    if (gated) dPre.values[upAt] = dInnerValue * by * (factorSlope * value);
    dMultiplier.values[i] = dInnerValue * product;
    inner.values[i] = product * by;
  });
  operands.dPre.store(dPre.values);
  operands.dMultiplier?.store(dMultiplier.values);
  operands.inner?.store(inner.values);
};
