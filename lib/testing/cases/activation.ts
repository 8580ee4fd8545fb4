import { type Activation, activations, defaultClamp, isGated } from "../../core/layer/activation.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { activate } from "../../operators/experts/activate.js";
import { activationBackward } from "../../operators/experts/activation_backward.js";
import { activationOf } from "../../operators/experts/activation_options.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { unitRoundoff } from "../rounding.js";

interface Problem {
  activation: Activation;
  rows: number;
  /** I */
  outputs: number;
  dtypes?: readonly [pre: FloatDType, dInner: FloatDType, out: FloatDType];
  multiplier?: FloatDType;
  /** Whether some rows are a shared expert's, with a clamp of its own. */
  shared?: boolean;
}

/** Values on both sides of the limits. */
const deviation = 3;
const clamp = { ...defaultClamp, limit: 4, upLimit: 5 };
/** The clamp of the last of two experts, which has about half of the rows. */
const sharedClamp = { alpha: 1, limit: 2, upLimit: Number.POSITIVE_INFINITY, offset: 0 };

function named(problem: Problem) {
  const { activation, rows, outputs, dtypes: [pre, dInner, out] = ["f32", "f32", "f32"], multiplier } = problem;
  const extra = `${multiplier ? `, multiplier ${multiplier}` : ""}${problem.shared ? ", a shared expert's clamp" : ""}`;
  return `R${rows} I${outputs} ${activation} ${pre}, ${dInner} to ${out}${extra}`;
}

function drawn(
  { activation, rows, outputs, dtypes: [dtype] = ["f32", "f32", "f32"], multiplier, shared }: Problem,
  inputs: Inputs,
) {
  const pre = inputs.normals([rows, isGated(activation) ? 2 * outputs : outputs], dtype, deviation);
  const offsets = () => inputs.integers([0, Math.floor(rows / 2), rows], [3]);
  return {
    pre,
    rest: {
      ...(multiplier && { multiplier: inputs.normals([rows, outputs], multiplier) }),
      ...(shared && { shared: { clamp: sharedClamp, offsets: offsets(), experts: 1 } }),
    },
  };
}

export function activateCase(problem: Problem): Case {
  const { activation, rows, outputs, dtypes: [, , out] = ["f32", "f32", "f32"] } = problem;
  return {
    name: named(problem),
    operator: "activate",
    tolerances: { inner: 1e-6 + unitRoundoff[out] },
    // Far below zero, 1 + erf or 1 + tanh cancels out.
    magnitudes: { inner: 1 },
    run(inputs) {
      const { pre, rest } = drawn(problem, inputs);
      return {
        inner: activate(pre, {
          ...activationOf({ activation, clamp }),
          ...rest,
          out: inputs.empty([rows, outputs], out),
        }),
      };
    },
  };
}

export function activationBackwardCase(problem: Problem, options: { inner?: boolean } = { inner: true }): Case {
  const { activation, rows, outputs, multiplier, dtypes: [, gradient, out] = ["f32", "f32", "f32"] } = problem;
  const tolerance = 2e-6 + unitRoundoff[out];
  return {
    name: `${named(problem)}${options.inner ? "" : " without inner"}`,
    operator: "activationBackward",
    tolerances: { dPre: tolerance, dMultiplier: tolerance, inner: tolerance },
    magnitudes: { dPre: 1 },
    run(inputs) {
      const { pre, rest } = drawn(problem, inputs);
      const dInner = inputs.normals([rows, outputs], gradient);
      const one = [rows, outputs];
      const results = activationBackward(pre, dInner, {
        ...activationOf({ activation, clamp }),
        ...rest,
        ...options,
        out: {
          dPre: inputs.empty(pre.shape, out),
          ...(multiplier && { dMultiplier: inputs.empty(one, out) }),
          ...(options.inner && { inner: inputs.empty(one, out) }),
        },
      });
      return { ...results };
    },
  };
}

const problems: readonly Problem[] = [
  ...activations.flatMap((activation): Problem[] => [
    { activation, rows: 9, outputs: 300 },
    { activation, rows: 5, outputs: 45, dtypes: ["bf16", "f32", "bf16"], multiplier: "bf16" },
  ]),
  { activation: "swiglu", rows: 3, outputs: 2880, dtypes: ["f16", "f16", "f16"] },
  { activation: "swiglu", rows: 64, outputs: 1, dtypes: ["f16", "bf16", "f32"], multiplier: "f32" },
  { activation: "geglu", rows: 0, outputs: 8 },
  { activation: "silu", rows: 4, outputs: 0 },
  { activation: "swiglu", rows: 1, outputs: 1 },
  { activation: "swiglu_clamped", rows: 9, outputs: 270, shared: true },
  { activation: "swiglu_clamped_after", rows: 6, outputs: 40, dtypes: ["bf16", "f16", "f32"], shared: true },
  { activation: "situ", rows: 7, outputs: 33, multiplier: "f32", shared: true },
];

export const activationCases: readonly Case[] = [
  ...problems.map(activateCase),
  ...problems.map((problem) => activationBackwardCase(problem)),
  activationBackwardCase({ activation: "swiglu", rows: 7, outputs: 33 }, {}),
];
