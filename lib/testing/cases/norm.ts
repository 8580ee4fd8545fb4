import type { FloatDType } from "../../core/tensors/dtype.js";
import { rmsNorm } from "../../operators/experts/rms_norm.js";
import { rmsNormBackward } from "../../operators/experts/rms_norm_backward.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { unitRoundoff } from "../rounding.js";

export interface NormProblem {
  tokens: number;
  hidden: number;
  epsilon?: number;
  offset?: number;
  /** Standard deviation of x. */
  deviation?: number;
}

function named({ tokens, hidden, epsilon = 1e-6, offset = 0, deviation = 1 }: NormProblem, ...dtypes: string[]) {
  return `T${tokens} H${hidden} epsilon ${epsilon} offset ${offset} deviation ${deviation} ${dtypes.join(", ")}`;
}

function drawn(
  { tokens, hidden, epsilon = 1e-6, offset = 0, deviation = 1 }: NormProblem,
  [x, weight]: readonly [x: FloatDType, weight: FloatDType, ...others: FloatDType[]],
  inputs: Inputs,
) {
  return {
    x: inputs.normals([tokens, hidden], x, deviation),
    weight: inputs.normals([hidden], weight),
    options: { epsilon, offset },
  };
}

export function rmsNormCase(
  problem: NormProblem,
  dtypes: readonly [x: FloatDType, weight: FloatDType, y: FloatDType],
): Case {
  const [x, weight, y] = dtypes;
  return {
    name: `${named(problem, x, weight)} to ${y}`,
    operator: "rmsNorm",
    tolerances: { y: 1e-6 + unitRoundoff[y] },
    run(inputs) {
      const { x, weight, options } = drawn(problem, dtypes, inputs);
      return { y: rmsNorm(x, weight, { ...options, out: inputs.empty(x.shape, y) }) };
    },
  };
}

type Wanted = "dx" | "dWeight" | "both";

export function rmsNormBackwardCase(
  problem: NormProblem,
  dtypes: readonly [x: FloatDType, weight: FloatDType, dy: FloatDType, dx: FloatDType],
  want: Wanted = "both",
  residual?: FloatDType,
): Case {
  const { tokens, hidden, deviation = 1 } = problem;
  const [x, weight, dy, dx] = dtypes;
  return {
    name: `${named(problem, x, weight, dy)} to ${dx}, ${want}${residual ? `, residual ${residual}` : ""}`,
    operator: "rmsNormBackward",
    tolerances: { dx: 3e-6 + unitRoundoff[dx], dWeight: 1e-5 },
    // dx is the difference of terms of this size, which may cancel.
    magnitudes: { dx: 1 / deviation, dWeight: 1 },
    run(inputs) {
      const { x, weight, options } = drawn(problem, dtypes, inputs);
      const gradient = inputs.normals([tokens, hidden], dy);
      const past = residual && inputs.normals([tokens, hidden], residual);
      const all = { ...options, ...(past && { residual: past }) };
      if (want === "dWeight") return rmsNormBackward(x, weight, gradient, { ...all, want });
      const out = { dx: inputs.empty([tokens, hidden], dx) };
      if (want === "dx") return rmsNormBackward(x, weight, gradient, { ...all, want, out });
      const both = { ...out, dWeight: inputs.f32Empty([hidden]) };
      return { ...rmsNormBackward(x, weight, gradient, { ...all, out: both }) };
    },
  };
}

const problems: readonly NormProblem[] = [
  { tokens: 0, hidden: 8 },
  { tokens: 3, hidden: 0 },
  { tokens: 1, hidden: 1 },
  { tokens: 1, hidden: 7168 },
  { tokens: 33, hidden: 51, offset: 1 },
  { tokens: 9, hidden: 2880, epsilon: 1e-5 },
  { tokens: 70, hidden: 516, deviation: 100 },
  // Where epsilon is most of the mean.
  { tokens: 5, hidden: 128, deviation: 1e-3, epsilon: 1e-5 },
];
const dtypes = ["f32", "f16", "bf16"] as const;
const mixed = { tokens: 19, hidden: 301, offset: 1 };

/** RMSNorm and its gradient. */
export const normCases: readonly Case[] = [
  ...dtypes.flatMap((dtype) => problems.map((problem) => rmsNormCase(problem, [dtype, dtype, dtype]))),
  rmsNormCase(mixed, ["bf16", "f32", "bf16"]),
  rmsNormCase(mixed, ["f16", "bf16", "f32"]),
  ...dtypes.flatMap((dtype) => problems.map((problem) => rmsNormBackwardCase(problem, [dtype, dtype, dtype, dtype]))),
  rmsNormBackwardCase(mixed, ["bf16", "f32", "f32", "bf16"], "both", "bf16"),
  rmsNormBackwardCase(mixed, ["f16", "bf16", "f16", "f32"], "dx", "f32"),
  rmsNormBackwardCase(mixed, ["f32", "f16", "bf16", "f16"], "dWeight"),
];
