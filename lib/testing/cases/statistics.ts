import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { accumulate } from "../../operators/statistics/accumulate.js";
import { columnMeans } from "../../operators/statistics/column_means.js";
import { expertTotals } from "../../operators/statistics/expert_totals.js";
import { cvSquared, maximumViolation } from "../../operators/statistics/imbalance.js";
import { type LoadBalancingLossOptions, loadBalancingLoss } from "../../operators/statistics/load_balancing_loss.js";
import { type RouterScoresOptions, routerScores } from "../../operators/statistics/router_scores.js";
import { updateSelectionBias } from "../../operators/statistics/update_selection_bias.js";
import { zLoss } from "../../operators/statistics/z_loss.js";
import type { Case } from "../case.js";
import type { Inputs } from "../inputs/inputs.js";
import { randomRouting, type Spread } from "../inputs/random_routing.js";
import { logitKinds } from "./gating.js";

export type LogitKind = keyof typeof logitKinds;

/** A batch's sizes, and how its choices are drawn. */
export interface Sizes {
  tokens: number;
  topK: number;
  experts: number;
  sequences?: number;
  spread?: Spread;
  masked?: boolean;
}

export const sizes: readonly Sizes[] = [
  { tokens: 0, topK: 2, experts: 8 },
  { tokens: 1, topK: 1, experts: 1 },
  { tokens: 33, topK: 2, experts: 8, sequences: 3 },
  { tokens: 33, topK: 8, experts: 60, sequences: 33, spread: "uneven" },
  { tokens: 70, topK: 6, experts: 72, spread: "some_dropped", sequences: 2 },
  { tokens: 51, topK: 4, experts: 33, spread: "one_expert" },
  { tokens: 9, topK: 3, experts: 5, spread: "all_dropped" },
  { tokens: 4, topK: 8, experts: 1100 },
  { tokens: 2050, topK: 2, experts: 16, spread: "uneven" },
  { tokens: 99, topK: 4, experts: 24, sequences: 3, spread: "some_dropped", masked: true },
  { tokens: 2050, topK: 2, experts: 16, masked: true },
];

/** Sizes in words. */
export const sizesText = ({ tokens, topK, experts, sequences = 1, spread = "even", masked }: Sizes) =>
  `T${tokens} k${topK} E${experts} S${sequences} ${spread}${masked ? " masked" : ""}`;

/** Logits of a kind; the last of several tokens has equal ones. */
export function logitsOf(inputs: Inputs, tokens: number, experts: number, kind: LogitKind, dtype: FloatDType) {
  const logits = new Float32Array(tokens * experts);
  for (let token = 0; token < tokens; token++) {
    const rowKind = token > 0 && token === tokens - 1 ? "equal" : kind;
    logits.set(logitKinds[rowKind](inputs.random, experts), token * experts);
  }
  return inputs.floats(logits, [tokens, experts], dtype);
}

/** A routing as sizes say. */
export function routingOf(inputs: Inputs, { tokens, topK, experts, spread = "even" }: Sizes) {
  const { ids, weights } = randomRouting(inputs.random, tokens, topK, experts, spread);
  return {
    ids: inputs.integers(ids, [tokens, topK]),
    weights: inputs.floats(weights, [tokens, topK], "f32") as Tensor<"f32">,
  };
}

/** The options for a problem with a mask. */
export const maskOf = (inputs: Inputs, { tokens, masked }: Pick<Sizes, "tokens" | "masked">) =>
  masked ? { tokenMask: inputs.tokenMask(tokens) } : {};

export interface ScoresProblem extends RouterScoresOptions {
  tokens: number;
  experts: number;
  kind?: LogitKind;
  dtype?: FloatDType;
}

export function scoresCase({ tokens, experts, kind = "normal", dtype = "f32", ...options }: ScoresProblem): Case {
  const { scoring = "softmax", normalize = false } = options;
  return {
    name: `T${tokens} E${experts} ${scoring}${normalize ? " normalized" : ""} of ${kind} ${dtype}`,
    operator: "routerScores",
    tolerances: { scores: 1e-6, logSumExp: 1e-6, entropy: 2e-6 },
    magnitudes: { entropy: Math.log(experts) },
    run: (inputs) => ({ ...routerScores(logitsOf(inputs, tokens, experts, kind, dtype), options) }),
  };
}

export function totalsCase(problem: Sizes, weighted: boolean, choices = problem.topK): Case {
  const of = choices === problem.topK ? "" : ` of the first ${choices}`;
  return {
    name: `${sizesText(problem)}${weighted ? " weights" : ""}${of}`,
    operator: "expertTotals",
    tolerances: { weights: 1e-6 },
    run(inputs) {
      const { experts: numExperts, sequences = 1 } = problem;
      const { ids, weights } = routingOf(inputs, problem);
      return {
        ...expertTotals(ids, {
          numExperts,
          sequences,
          choices,
          ...(weighted && { weights }),
          ...maskOf(inputs, problem),
        }),
      };
    },
  };
}

export function meansCase(tokens: number, columns: number, sequences: number, square: boolean, masked = false): Case {
  return {
    name: `T${tokens} N${columns} S${sequences}${square ? " squares" : ""}${masked ? " masked" : ""}`,
    operator: "columnMeans",
    tolerances: { means: 1e-6 },
    run(inputs) {
      const counts = masked ? inputs.maskValues(tokens) : undefined;
      const isRead = (token: number) => counts?.[token] !== 0;
      const values = inputs.readNormals([tokens, columns], "f32", isRead) as Tensor<"f32">;
      const mask = counts && { tokenMask: inputs.keep(inputs.device.tensor(counts, [tokens])) };
      return { means: columnMeans(values, { sequences, square, ...mask }) };
    },
  };
}

export function lossCase(problem: Sizes, options: LoadBalancingLossOptions, dtype: FloatDType = "f32"): Case {
  const { tokens, experts, sequences = 1 } = problem;
  return {
    name: `${sizesText(problem)} ${Object.values(options).join(" ")} ${dtype}`,
    operator: "loadBalancingLoss",
    tolerances: { loss: 2e-6 },
    run(inputs) {
      const logits = logitsOf(inputs, tokens, experts, "normal", dtype);
      const { ids } = routingOf(inputs, problem);
      return { loss: loadBalancingLoss(logits, ids, { sequences, ...options, ...maskOf(inputs, problem) }) };
    },
  };
}

export function zLossCase(tokens: number, experts: number, kind: LogitKind, dtype: FloatDType, masked = false): Case {
  return {
    name: `T${tokens} E${experts} of ${kind} ${dtype}${masked ? " masked" : ""}`,
    operator: "zLoss",
    tolerances: { loss: 2e-6 },
    run(inputs) {
      const logits = logitsOf(inputs, tokens, experts, kind, dtype);
      return { loss: zLoss(logits, maskOf(inputs, { tokens, masked })) };
    },
  };
}

export function imbalanceCase(count: number, offset: number): Case {
  return {
    name: `N${count} around ${offset}`,
    operator: "imbalance",
    tolerances: { cvSquared: 1e-6, unbiased: 1e-6, ofIntegers: 1e-6, maximumViolation: 1e-6 },
    run(inputs) {
      const random = inputs.random.normals(count).map((value) => offset + value);
      const values = inputs.floats(random, [count], "f32") as Tensor<"f32">;
      const integers = inputs.integers(random.map(Math.abs), [1, count]);
      return {
        cvSquared: cvSquared(values),
        unbiased: cvSquared(values, { unbiased: true, epsilon: 1e-3 }),
        ofIntegers: cvSquared(integers),
        maximumViolation: maximumViolation(integers),
      };
    },
  };
}

export function biasCase(sequences: number, experts: number): Case {
  return {
    name: `S${sequences} E${experts}`,
    operator: "updateSelectionBias",
    tolerances: { updated: 1e-7, inPlace: 1e-7 },
    run(inputs) {
      const counts = Int32Array.from({ length: sequences * experts }, () => inputs.random.integer(0, 3));
      const tokens = inputs.integers(counts, [sequences, experts]);
      const bias = inputs.normals([experts], "f32") as Tensor<"f32">;
      const own = inputs.normals([experts], "f32") as Tensor<"f32">;
      return {
        updated: updateSelectionBias(bias, tokens, { rate: 0.125 }),
        inPlace: updateSelectionBias(own, tokens, { out: own }),
      };
    },
  };
}

/** Adds numbers whose sums exceed 32 bits, then doubles the totals. */
export function accumulateCase(count: number): Case {
  return {
    name: `N${count}`,
    operator: "accumulate",
    tolerances: { floats: 1e-7 },
    run(inputs) {
      const integers = inputs.integers(new Int32Array(2 * count), [count, 2]);
      const floats = inputs.floats(new Float32Array(2 * count), [count, 2], "f32") as Tensor<"f32">;
      for (let call = 0; call < 5; call++) {
        const large = Int32Array.from({ length: count }, () => inputs.random.integer(-(2 ** 31), 2 ** 31 - 1));
        accumulate(integers, inputs.integers(large, [count]));
        accumulate(floats, inputs.normals([count], "f32") as Tensor<"f32">, { scale: 10 ** call });
      }
      for (const totals of [integers, floats] as Tensor<"f32">[]) {
        const before = inputs.keep(inputs.device.zeros([count, 2], totals.dtype));
        accumulate(before, totals);
        accumulate(totals, before);
      }
      const leading = columnMeans(floats, { sequences: Math.max(1, count) });
      return { integers, floats: leading };
    },
  };
}

export const scoresProblems: readonly ScoresProblem[] = (
  ["normal", "extreme", "non_finite", "never_finite"] as const
).flatMap((kind) => [
  { tokens: 13, experts: 33, kind },
  { tokens: 7, experts: 70, kind, dtype: "bf16" },
  { tokens: 9, experts: 8, kind, scoring: "sigmoid" },
  { tokens: 9, experts: 45, kind, scoring: "sigmoid", normalize: true, dtype: "f16" },
]);

export const meansProblems: readonly Parameters<typeof meansCase>[] = [
  [0, 5, 1, false],
  [1, 1, 1, true],
  [66, 33, 6, false],
  [5000, 3, 2, true],
  [5000, 3, 2, false, true],
  [120, 33, 40, true, true],
];

export const lossProblems: readonly Parameters<typeof lossCase>[] = [
  ...sizes.map((problem): Parameters<typeof lossCase> => [problem, {}]),
  [{ tokens: 48, topK: 4, experts: 16, sequences: 3, spread: "uneven" }, { scoring: "sigmoid" }, "bf16"],
  [{ tokens: 50, topK: 4, experts: 16, spread: "uneven" }, { choices: "first" }],
  [{ tokens: 50, topK: 4, experts: 16, spread: "uneven" }, { normalization: "tokens" }, "f16"],
];

export const zLossProblems: readonly Parameters<typeof zLossCase>[] = [
  [0, 8, "normal", "f32"],
  [1, 1, "normal", "f32"],
  [300, 60, "normal", "f32"],
  [33, 128, "normal", "bf16"],
  [300, 60, "normal", "f32", true],
  [33, 16, "extreme", "f32"],
  [9, 6, "all_negative_infinity", "f32"],
];

export const statisticsCases: readonly Case[] = [
  ...scoresProblems.map(scoresCase),
  scoresCase({ tokens: 0, experts: 8 }),
  scoresCase({ tokens: 5, experts: 1 }),
  scoresCase({ tokens: 3, experts: 1100, normalize: true }),
  scoresCase({ tokens: 3, experts: 257, kind: "equal" }),
  scoresCase({ tokens: 3, experts: 12, kind: "all_nan", scoring: "sigmoid", normalize: true }),
  ...sizes.flatMap((problem) => [totalsCase(problem, false), totalsCase(problem, true)]),
  totalsCase({ tokens: 45, topK: 4, experts: 12, spread: "some_dropped" }, true, 1),
  totalsCase({ tokens: 45, topK: 4, experts: 12 }, true, 0),
  ...meansProblems.map((problem) => meansCase(...problem)),
  meansCase(40, 1100, 40, false),
  ...lossProblems.map((problem) => lossCase(...problem)),
  ...zLossProblems.map((problem) => zLossCase(...problem)),
  imbalanceCase(0, 0),
  imbalanceCase(1, 3),
  imbalanceCase(8, 2),
  imbalanceCase(300, 10),
  biasCase(1, 1),
  biasCase(1, 33),
  biasCase(7, 300),
  accumulateCase(0),
  accumulateCase(1),
  accumulateCase(333),
];
