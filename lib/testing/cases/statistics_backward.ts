import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { columnMeansBackward } from "../../operators/statistics/column_means_backward.js";
import { cvSquaredBackward } from "../../operators/statistics/cv_squared_backward.js";
import { expertTotalsBackward } from "../../operators/statistics/expert_totals_backward.js";
import type { LoadBalancingLossOptions } from "../../operators/statistics/load_balancing_loss.js";
import { loadBalancingLossBackward } from "../../operators/statistics/load_balancing_loss_backward.js";
import { routerScoresBackward } from "../../operators/statistics/router_scores_backward.js";
import { zLossBackward } from "../../operators/statistics/z_loss_backward.js";
import type { Case } from "../case.js";
import {
  type LogitKind,
  logitsOf,
  lossProblems,
  maskOf,
  meansProblems,
  routingOf,
  type ScoresProblem,
  type Sizes,
  scoresProblems,
  sizes,
  sizesText,
  zLossProblems,
} from "./statistics.js";

type Results = "dScores" | "dLogSumExp" | "dEntropy";

/** The gradient of some of the results. */
export function scoresBackwardCase(problem: ScoresProblem, results: readonly Results[]): Case {
  const { tokens, experts, kind = "normal", dtype = "f32", scoring = "softmax", normalize = false } = problem;
  const rule = `${scoring}${normalize ? " normalized" : ""}`;
  return {
    name: `T${tokens} E${experts} ${rule} of ${kind} ${dtype}, ${results.join(" ")}`,
    operator: "routerScoresBackward",
    tolerances: { dLogits: 2e-6 },
    // Terms may cancel out.
    magnitudes: { dLogits: 1 },
    run(inputs) {
      const logits = logitsOf(inputs, tokens, experts, kind, dtype);
      const shapes = { dScores: [tokens, experts], dLogSumExp: [tokens], dEntropy: [tokens] };
      const gradients = Object.fromEntries(results.map((name) => [name, inputs.f32Normals(shapes[name])]));
      return { dLogits: routerScoresBackward(logits, gradients, { scoring, normalize }) };
    },
  };
}

export function totalsBackwardCase(problem: Sizes, choices = problem.topK): Case {
  const of = choices === problem.topK ? "" : ` of the first ${choices}`;
  return {
    name: `${sizesText(problem)}${of}`,
    operator: "expertTotalsBackward",
    tolerances: {},
    run(inputs) {
      const { experts, sequences = 1 } = problem;
      const { ids } = routingOf(inputs, problem);
      const dSums = inputs.f32Normals([sequences, experts]);
      return { dWeights: expertTotalsBackward(ids, dSums, { choices, ...maskOf(inputs, problem) }) };
    },
  };
}

export function meansBackwardCase(
  tokens: number,
  columns: number,
  sequences: number,
  square: boolean,
  masked = false,
): Case {
  return {
    name: `T${tokens} N${columns} S${sequences}${square ? " squares" : ""}${masked ? " masked" : ""}`,
    operator: "columnMeansBackward",
    tolerances: { dValues: 5e-7 },
    run(inputs) {
      const [values, dMeans] = [inputs.f32Normals([tokens, columns]), inputs.f32Normals([sequences, columns])];
      return { dValues: columnMeansBackward(values, dMeans, { square, ...maskOf(inputs, { tokens, masked }) }) };
    },
  };
}

export function cvBackwardCase(count: number, offset: number): Case {
  return {
    name: `N${count} around ${offset}`,
    operator: "cvSquaredBackward",
    tolerances: { biased: 1e-6, unbiased: 1e-6 },
    run(inputs) {
      const values = inputs.floats(
        inputs.random.normals(count).map((value) => offset + value),
        [count],
        "f32",
      ) as Tensor<"f32">;
      return {
        biased: cvSquaredBackward(values, { factor: 3 }),
        unbiased: cvSquaredBackward(values, { unbiased: true, epsilon: 1e-3 }),
      };
    },
  };
}

export function lossBackwardCase(problem: Sizes, options: LoadBalancingLossOptions, dtype: FloatDType = "f32"): Case {
  const { tokens, experts, sequences = 1 } = problem;
  return {
    name: `${sizesText(problem)} ${Object.values(options).join(" ")} ${dtype}`,
    operator: "loadBalancingLossBackward",
    tolerances: { dLogits: 2e-6 },
    // As large as one token's share of the loss.
    magnitudes: { dLogits: 1 / Math.max(1, tokens) },
    run(inputs) {
      const logits = logitsOf(inputs, tokens, experts, "normal", dtype);
      const { ids } = routingOf(inputs, problem);
      const mask = maskOf(inputs, problem);
      return { dLogits: loadBalancingLossBackward(logits, ids, { sequences, factor: 0.5, ...options, ...mask }) };
    },
  };
}

export function zLossBackwardCase(
  tokens: number,
  experts: number,
  kind: LogitKind,
  dtype: FloatDType,
  masked = false,
): Case {
  return {
    name: `T${tokens} E${experts} of ${kind} ${dtype}${masked ? " masked" : ""}`,
    operator: "zLossBackward",
    tolerances: { dLogits: 2e-6 },
    run(inputs) {
      const logits = logitsOf(inputs, tokens, experts, kind, dtype);
      return { dLogits: zLossBackward(logits, { factor: 0.5, ...maskOf(inputs, { tokens, masked }) }) };
    },
  };
}

const everything = ["dScores", "dLogSumExp", "dEntropy"] as const;

export const statisticsBackwardCases: readonly Case[] = [
  ...scoresProblems.map((problem) => scoresBackwardCase(problem, everything)),
  scoresBackwardCase({ tokens: 13, experts: 60 }, ["dScores"]),
  scoresBackwardCase({ tokens: 13, experts: 60 }, ["dLogSumExp"]),
  scoresBackwardCase({ tokens: 13, experts: 60 }, ["dEntropy"]),
  scoresBackwardCase({ tokens: 0, experts: 8 }, ["dScores"]),
  scoresBackwardCase({ tokens: 3, experts: 1100, normalize: true }, everything),
  scoresBackwardCase({ tokens: 3, experts: 12, kind: "all_nan", scoring: "sigmoid", normalize: true }, everything),
  ...sizes.map((problem) => totalsBackwardCase(problem)),
  totalsBackwardCase({ tokens: 45, topK: 4, experts: 12, spread: "some_dropped" }, 1),
  totalsBackwardCase({ tokens: 45, topK: 4, experts: 12 }, 0),
  ...meansProblems.map((problem) => meansBackwardCase(...problem)),
  cvBackwardCase(0, 0),
  cvBackwardCase(1, 3),
  cvBackwardCase(8, 2),
  cvBackwardCase(300, 10),
  ...lossProblems.map((problem) => lossBackwardCase(...problem)),
  ...zLossProblems.map((problem) => zLossBackwardCase(...problem)),
  zLossBackwardCase(33, 16, "non_finite", "f32"),
];
