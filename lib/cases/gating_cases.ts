import type { Scoring } from "../backend.js";
import type { FloatDType } from "../dtype.js";
import { gating } from "../operators/gating.js";
import type { Case } from "./case.js";
import type { Random } from "./random.js";

interface Problem {
  tokens: number;
  experts: number;
  topK: number;
  scoring?: Scoring;
  normalize?: boolean;
  scale?: number;
  dtype?: FloatDType;
  /** What the logits are like; default normal. */
  kind?: keyof typeof logitKinds;
}

const specials = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];

/** The kinds of one row of router logits that a case may have. */
export const logitKinds = {
  normal: (random: Random, experts: number) => random.normals(experts, 2),
  /** Only the ids decide. */
  equal: (_random: Random, experts: number) => new Float32Array(experts).fill(0.5),
  /** Many ties among few values, -0 and 0 being one of them. */
  tied: (random: Random, experts: number) =>
    Float32Array.from({ length: experts }, () => random.integer(-1, 1) * (random.uniform() < 0.5 ? 1 : -1)),
  /** exp of these overflows or underflows unless the largest is subtracted first. */
  extreme: (random: Random, experts: number) => random.normals(experts, 1e4),
  /** Some entries NaN or infinite. */
  non_finite: (random: Random, experts: number) =>
    random.normals(experts, 2).map((logit) => (random.uniform() < 0.3 ? pick(random, specials) : logit)),
  /** No finite entry at all. */
  never_finite: (random: Random, experts: number) =>
    Float32Array.from({ length: experts }, () => pick(random, specials.slice(0, 3))),
  all_nan: (_random: Random, experts: number) => new Float32Array(experts).fill(Number.NaN),
  all_negative_infinity: (_random: Random, experts: number) => new Float32Array(experts).fill(-Infinity),
} as const;

function pick(random: Random, values: readonly number[]): number {
  return values[random.integer(0, values.length - 1)] as number;
}

function gatingCase(problem: Problem): Case {
  const { tokens, experts, topK, kind = "normal", dtype = "f32" } = problem;
  const { scoring = "softmax", normalize = false, scale = 1 } = problem;
  const formula = `${scoring}${normalize ? " normalized" : ""}${scale === 1 ? "" : ` * ${scale}`}`;
  return {
    name: `T${tokens} E${experts} k${topK} ${formula} of ${kind} ${dtype}`,
    operator: "gating",
    tolerances: { weights: 3e-6 },
    run(inputs) {
      const logits = new Float32Array(tokens * experts);
      for (let token = 0; token < tokens; token++) {
        logits.set(logitKinds[kind](inputs.random, experts), token * experts);
      }
      const routing = gating(inputs.floats(logits, [tokens, experts], dtype), { topK, scoring, normalize, scale });
      return { ids: routing.ids, weights: routing.weights };
    },
  };
}

const formulas = [
  { scoring: "softmax" },
  { scoring: "softmax", normalize: true },
  { scoring: "softmax_selected" },
  { scoring: "softmax", scale: 16 },
  { scoring: "softmax_selected", normalize: true, scale: 2.5 },
] as const;

export const gatingCases: readonly Case[] = [
  ...formulas.flatMap((formula) => [
    gatingCase({ tokens: 13, experts: 8, topK: 2, ...formula }),
    gatingCase({ tokens: 5, experts: 160, topK: 6, dtype: "bf16", ...formula }),
    gatingCase({ tokens: 9, experts: 60, topK: 4, dtype: "f16", ...formula }),
    gatingCase({ tokens: 33, experts: 12, topK: 5, kind: "non_finite", ...formula }),
    gatingCase({ tokens: 7, experts: 33, topK: 3, kind: "extreme", ...formula }),
    gatingCase({ tokens: 9, experts: 16, topK: 4, kind: "never_finite", ...formula }),
  ]),
  ...(
    [
      { tokens: 0, experts: 8, topK: 2 },
      { tokens: 3, experts: 1, topK: 1 },
      { tokens: 4, experts: 8, topK: 8 },
      { tokens: 4, experts: 33, topK: 33, normalize: true },
      { tokens: 300, experts: 64, topK: 8 },
      { tokens: 5, experts: 72, topK: 6, normalize: true },
      { tokens: 5, experts: 96, topK: 10 },
      { tokens: 5, experts: 128, topK: 1 },
      { tokens: 5, experts: 160, topK: 14 },
      { tokens: 3, experts: 384, topK: 8 },
      { tokens: 3, experts: 512, topK: 22 },
      { tokens: 3, experts: 896, topK: 16 },
      { tokens: 2, experts: 1100, topK: 8 },
      { tokens: 2, experts: 1100, topK: 1100 },
      { tokens: 3, experts: 9, topK: 4, kind: "equal" },
      { tokens: 3, experts: 257, topK: 22, kind: "equal", normalize: true },
      { tokens: 21, experts: 40, topK: 8, kind: "tied" },
      { tokens: 9, experts: 512, topK: 22, kind: "tied", dtype: "f16" },
      { tokens: 2, experts: 8, topK: 8, kind: "all_nan" },
      { tokens: 2, experts: 72, topK: 6, kind: "all_nan", normalize: true },
      { tokens: 2, experts: 60, topK: 4, kind: "all_negative_infinity" },
      { tokens: 21, experts: 72, topK: 72, kind: "non_finite", dtype: "bf16" },
    ] satisfies Problem[]
  ).map(gatingCase),
];
