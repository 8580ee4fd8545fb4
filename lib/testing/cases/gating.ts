import type { FloatDType } from "../../core/tensors/dtype.js";
import { gating } from "../../operators/routing/gating.js";
import { checkGating, type GatingRuleOptions, gatingRule } from "../../operators/routing/gating_options.js";
import type { Matrix } from "../../reference/core/matrix.js";
import { gating as exactGating } from "../../reference/routing/gating.js";
import type { Case } from "../case.js";
import type { Random } from "../inputs/random.js";
import { isSteady } from "../inputs/steady_tokens.js";
import { round } from "../rounding.js";

export interface GatingProblem extends GatingRuleOptions {
  tokens: number;
  experts: number;
  /** A selection bias. */
  bias?: boolean;
  dtype?: FloatDType;
  /** How the logits are drawn; default normal. With groups, normal rows are steady. */
  kind?: keyof typeof logitKinds;
}

const specials = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];

/** Kinds of rows of router logits. */
export const logitKinds = {
  normal: (random: Random, experts: number) => random.normals(experts, 2),
  /** Only the expert ids decide. */
  equal: (_random: Random, experts: number) => new Float32Array(experts).fill(0.5),
  /** Many ties among few values, including -0 and 0. */
  tied: (random: Random, experts: number) =>
    Float32Array.from({ length: experts }, () => random.integer(-1, 1) * (random.uniform() < 0.5 ? 1 : -1)),
  /** exp overflows or underflows unless the largest is subtracted first. */
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

/** A rule in words. */
export function formulaOf({
  scoring = "softmax",
  selectionKey,
  groups,
  normalize,
  scale = 1,
  bias,
  jitter,
}: GatingProblem): string {
  const by = normalize === true ? "sum" : normalize === false ? undefined : normalize?.by;
  return [
    scoring,
    selectionKey && `by ${selectionKey}`,
    bias && "biased",
    groups && `from ${groups.top} of ${groups.count} groups by ${groups.score ?? "max"}`,
    by && `normalized by ${by}`,
    scale !== 1 && `* ${scale}`,
    jitter !== undefined && `jitter ${jitter}`,
  ]
    .filter(Boolean)
    .join(" ");
}

export function gatingCase(problem: GatingProblem): Case {
  const { tokens, experts, bias = false, kind = "normal", dtype = "f32", ...rule } = problem;
  return {
    name: `T${tokens} E${experts} k${rule.topK} ${formulaOf(problem)} of ${kind} ${dtype}`,
    operator: "gating",
    tolerances: { weights: 3e-6 },
    run(inputs) {
      const { random } = inputs;
      const selectionBias = random.normals(bias ? experts : 0, 0.2);
      const exactBias = bias ? round(selectionBias, dtype) : undefined;
      // Groups can be equally good in float32 and not in float64.
      const exactRule = rule.groups && kind === "normal" ? checkGating(gatingRule(rule, "rule"), experts) : undefined;
      const isSteadyRow = (row: Float32Array) =>
        exactRule === undefined ||
        isSteady(random, [round(row, dtype)], (logits: Matrix) => exactGating(logits, exactRule, exactBias));
      const logits = inputs.drawn(() => {
        const rows = new Float32Array(tokens * experts);
        for (let token = 0; token < tokens; ) {
          const row = logitKinds[kind](random, experts);
          if (isSteadyRow(row)) rows.set(row, token++ * experts);
        }
        return rows;
      });
      const routing = gating(inputs.floats(logits, [tokens, experts], dtype), {
        ...rule,
        ...(bias && { selectionBias: inputs.floats(selectionBias, [experts], dtype) }),
      });
      return { ids: routing.ids, weights: routing.weights };
    },
  };
}

export const formulas = [
  { scoring: "softmax" },
  { scoring: "softmax", normalize: true },
  { scoring: "softmax_selected" },
  { scoring: "softmax", scale: 16 },
  { scoring: "softmax_selected", normalize: true, scale: 2.5 },
] as const;

/** The rules of published models, and every scoring, key, group score and normalization. */
export const rules = [
  { topK: 8, scoring: "sigmoid", bias: true, normalize: { by: "sum_plus_epsilon", epsilon: 1e-20 }, scale: 2.5 },
  {
    topK: 8,
    scoring: "sigmoid",
    bias: true,
    groups: { count: 6, top: 3, score: "top2_sum" },
    normalize: true,
    scale: 2.5,
  },
  { topK: 6, scoring: "softmax", groups: { count: 6, top: 3 }, scale: 16 },
  { topK: 6, scoring: "softmax", bias: true, groups: { count: 6, top: 3, score: "topk_sum" } },
  { topK: 9, scoring: "softmax_selected", groups: { count: 4, top: 3, score: "topk_sum" } },
  { topK: 1, scoring: "sigmoid", selectionKey: "logit" },
  { topK: 3, scoring: "sigmoid", selectionKey: "logit", bias: true },
  { topK: 5, scoring: "softmax", bias: true, normalize: { by: "clamped_sum", epsilon: 1e-12 } },
  { topK: 4, scoring: "sigmoid", normalize: { by: "sum_plus_epsilon", epsilon: 0.5 } },
  { topK: 4, scoring: "softmax", normalize: { by: "lp", power: 1 } },
  { topK: 4, scoring: "softmax", normalize: { by: "clamped_sum", epsilon: 0.9 } },
  { topK: 4, scoring: "softmax_selected", bias: true, normalize: { by: "lp", power: 2 } },
  { topK: 6, scoring: "sqrt_softplus", bias: true, normalize: { by: "sum_plus_epsilon", epsilon: 1e-20 }, scale: 1.5 },
  { topK: 6, scoring: "sqrt_softplus", normalize: { by: "lp", power: 3.5 } },
  { topK: 5, scoring: "none" },
  {
    topK: 5,
    scoring: "none",
    bias: true,
    normalize: { by: "lp", power: 2 },
    groups: { count: 12, top: 5, score: "top2_sum" },
  },
  { topK: 2, scoring: "sparsemixer" },
  { topK: 4, scoring: "sparsemixer", jitter: 0.3, normalize: true },
] as const satisfies (GatingRuleOptions & { bias?: boolean })[];

export const gatingCases: readonly Case[] = [
  ...formulas.flatMap((formula) => [
    gatingCase({ tokens: 13, experts: 8, topK: 2, ...formula }),
    gatingCase({ tokens: 5, experts: 160, topK: 6, dtype: "bf16", ...formula }),
    gatingCase({ tokens: 9, experts: 60, topK: 4, dtype: "f16", ...formula }),
    gatingCase({ tokens: 33, experts: 12, topK: 5, kind: "non_finite", ...formula }),
    gatingCase({ tokens: 7, experts: 33, topK: 3, kind: "extreme", ...formula }),
    gatingCase({ tokens: 9, experts: 16, topK: 4, kind: "never_finite", ...formula }),
  ]),
  ...rules.flatMap((rule: GatingRuleOptions & { bias?: boolean }) => [
    gatingCase({ tokens: 19, experts: 60, ...rule }),
    gatingCase({ tokens: 3, experts: 1104, ...rule }),
    gatingCase({ tokens: 7, experts: 24, kind: "tied", dtype: "bf16", ...rule }),
    // Group scores are sums: those of infinite keys overflow in float32, but not in float64.
    gatingCase({ tokens: 5, experts: 36, kind: rule.groups ? "all_nan" : "never_finite", dtype: "f16", ...rule }),
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
      // Far more ties than the candidates have room for, or far fewer numbers.
      { tokens: 35, experts: 128, topK: 8, kind: "tied" },
      { tokens: 18, experts: 300, topK: 10, kind: "tied" },
      { tokens: 17, experts: 200, topK: 20, kind: "non_finite" },
      { tokens: 5, experts: 100, topK: 40, kind: "non_finite" },
      { tokens: 3, experts: 128, topK: 8, kind: "all_nan" },
      { tokens: 3, experts: 257, topK: 22, kind: "equal", normalize: true },
      { tokens: 21, experts: 40, topK: 8, kind: "tied" },
      { tokens: 9, experts: 512, topK: 22, kind: "tied", dtype: "f16" },
      { tokens: 2, experts: 8, topK: 8, kind: "all_nan" },
      { tokens: 2, experts: 72, topK: 6, kind: "all_nan", normalize: true },
      { tokens: 2, experts: 60, topK: 4, kind: "all_negative_infinity" },
      { tokens: 21, experts: 72, topK: 72, kind: "non_finite", dtype: "bf16" },
    ] satisfies GatingProblem[]
  ).map(gatingCase),
];
