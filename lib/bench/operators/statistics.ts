import { accumulate } from "../../operators/statistics/accumulate.js";
import { columnMeans } from "../../operators/statistics/column_means.js";
import { cvSquaredBackward } from "../../operators/statistics/cv_squared_backward.js";
import { expertTotals } from "../../operators/statistics/expert_totals.js";
import { expertTotalsBackward } from "../../operators/statistics/expert_totals_backward.js";
import { routerScores } from "../../operators/statistics/router_scores.js";
import { routerScoresBackward } from "../../operators/statistics/router_scores_backward.js";
import { updateSelectionBias } from "../../operators/statistics/update_selection_bias.js";
import type { TestArray } from "../../testing/subject/subject.js";
import { type Draw, integers } from "./draw.js";
import { f32, i32, type OperatorCase, type Sizes } from "./operator_case.js";

/** Choices of every expert, in one sequence. */
function tokensOf(draw: Draw, { tokens, topK, numExperts }: Sizes): TestArray {
  const counts = new Int32Array(numExperts);
  for (const id of draw.routing(tokens, topK, numExperts).ids.data) (counts[id] as number)++;
  return integers(counts, [1, numExperts]);
}

const one = (value: number): TestArray => integers(Int32Array.of(value), [1]);

/** Router statistics and the parts of losses. All tokens are one sequence. */
export const statisticsCases: readonly OperatorCase[] = [
  {
    operator: "routerScores",
    name: "routerScores",
    inputs: (draw, { tokens, numExperts }) => ({
      logits: draw.logits(tokens, numExperts),
      scoring: "softmax",
      normalize: false,
    }),
    outputs: ({ tokens, numExperts }) => ({
      scores: f32(tokens, numExperts),
      logSumExp: f32(tokens),
      entropy: f32(tokens),
    }),
    call:
      () =>
      ({ logits }, { scores, logSumExp, entropy }) =>
        void routerScores(logits, { out: { scores, logSumExp, entropy } }),
  },
  {
    operator: "routerScoresBackward",
    name: "routerScoresBackward",
    inputs: (draw, { tokens, numExperts }) => ({
      logits: draw.logits(tokens, numExperts),
      dScores: draw.normals([tokens, numExperts]),
      dLogSumExp: draw.normals([tokens]),
      scoring: "softmax",
      normalize: false,
    }),
    outputs: ({ tokens, numExperts }) => ({ dLogits: f32(tokens, numExperts) }),
    call:
      () =>
      ({ logits, dScores, dLogSumExp }, { dLogits }) =>
        void routerScoresBackward(logits, { dScores, dLogSumExp }, { out: dLogits }),
  },
  {
    operator: "expertTotals",
    name: "expertTotals",
    inputs: (draw, { tokens, topK, numExperts }) => ({ ...draw.routing(tokens, topK, numExperts), choices: topK }),
    outputs: ({ numExperts }) => ({ tokens: i32(1, numExperts), dropped: i32(1), sums: f32(1, numExperts) }),
    call:
      ({ numExperts }) =>
      ({ ids, weights }, { tokens, dropped, sums }) =>
        void expertTotals(ids, { numExperts, weights, out: { tokens, dropped, weights: sums } }),
  },
  {
    operator: "expertTotalsBackward",
    name: "expertTotalsBackward",
    inputs: (draw, { tokens, topK, numExperts }) => ({
      ids: draw.routing(tokens, topK, numExperts).ids,
      dSums: draw.normals([1, numExperts]),
      choices: topK,
    }),
    outputs: ({ tokens, topK }) => ({ dWeights: f32(tokens, topK) }),
    call:
      () =>
      ({ ids, dSums }, { dWeights }) =>
        void expertTotalsBackward(ids, dSums, { out: dWeights }),
  },
  {
    operator: "columnMeans",
    name: "columnMeans",
    inputs: (draw, { tokens, numExperts }) => ({
      values: draw.positive([tokens, numExperts]),
      square: false,
      total: false,
    }),
    outputs: ({ numExperts }) => ({ means: f32(1, numExperts) }),
    call:
      () =>
      ({ values }, { means }) =>
        void columnMeans(values, { out: means }),
  },
  {
    operator: "columnMeansBackward",
    name: "columnMeansBackward",
    inputs: (draw, { tokens, numExperts }) => ({ dMeans: draw.normals([1, numExperts]), counts: one(tokens) }),
    outputs: ({ tokens, numExperts }) => ({ dValues: f32(tokens, numExperts) }),
    call:
      () =>
      ({ dMeans, counts }, { dValues }, { backend }) =>
        backend.columnMeansBackward({ dMeans: dMeans.handle, counts: counts.handle, dValues: dValues.handle }),
  },
  {
    operator: "balanceLoss",
    name: "loadBalancingLoss",
    inputs: (draw, sizes) => ({
      tokens: tokensOf(draw, sizes),
      means: draw.positive([1, sizes.numExperts]),
      counts: one(sizes.tokens),
      scale: 1,
    }),
    outputs: () => ({ loss: f32(1) }),
    call:
      () =>
      ({ tokens, means, counts }, { loss }, { backend }) =>
        backend.balanceLoss({
          tokens: tokens.handle,
          means: means.handle,
          counts: counts.handle,
          loss: loss.handle,
          scale: 1,
        }),
  },
  {
    operator: "balanceLossBackward",
    name: "loadBalancingLossBackward",
    inputs: (draw, sizes) => ({ tokens: tokensOf(draw, sizes), counts: one(sizes.tokens), scale: 1 }),
    outputs: ({ numExperts }) => ({ dMeans: f32(1, numExperts) }),
    call:
      () =>
      ({ tokens, counts }, { dMeans }, { backend }) =>
        backend.balanceLossBackward({ tokens: tokens.handle, counts: counts.handle, dMeans: dMeans.handle, scale: 1 }),
  },
  {
    operator: "imbalance",
    name: "cvSquared",
    inputs: (draw, sizes) => ({ values: tokensOf(draw, sizes), measure: "cv_squared", epsilon: 1e-10 }),
    outputs: () => ({ result: f32(1) }),
    call:
      () =>
      ({ values }, { result }, { backend }) =>
        backend.imbalance({ values: values.handle, result: result.handle, measure: "cv_squared", epsilon: 1e-10 }),
  },
  {
    operator: "cvSquaredBackward",
    name: "cvSquaredBackward",
    inputs: (draw, { numExperts }) => ({
      values: draw.positive([numExperts]),
      unbiased: false,
      epsilon: 1e-10,
      scale: 1,
    }),
    outputs: ({ numExperts }) => ({ dValues: f32(numExperts) }),
    call:
      () =>
      ({ values }, { dValues }) =>
        void cvSquaredBackward(values, { out: dValues }),
  },
  {
    operator: "updateSelectionBias",
    name: "updateSelectionBias",
    inputs: (draw, sizes) => ({ bias: draw.normals([sizes.numExperts]), tokens: tokensOf(draw, sizes), rate: 0.001 }),
    outputs: ({ numExperts }) => ({ updated: f32(numExperts) }),
    call:
      () =>
      ({ bias, tokens }, { updated }) =>
        void updateSelectionBias(bias, tokens, { rate: 0.001, out: updated }),
  },
  {
    operator: "accumulate",
    name: "accumulate",
    inputs: (draw, { tokens, numExperts }) => ({
      values: draw.positive([tokens * numExperts]),
      totals: {
        ...draw.positive([0, 2]),
        data: new Float32Array(2 * tokens * numExperts),
        shape: [tokens * numExperts, 2],
      },
    }),
    outputs: () => ({}),
    call:
      () =>
      ({ values, totals }) =>
        accumulate(totals, values),
  },
];
