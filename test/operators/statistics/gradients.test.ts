import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expertScorings } from "../../../lib/core/layer/routing_rule.js";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { gatingBackward } from "../../../lib/operators/routing/gating_backward.js";
import { columnMeans } from "../../../lib/operators/statistics/column_means.js";
import { columnMeansBackward } from "../../../lib/operators/statistics/column_means_backward.js";
import { cvSquaredBackward } from "../../../lib/operators/statistics/cv_squared_backward.js";
import { expertTotals } from "../../../lib/operators/statistics/expert_totals.js";
import { expertTotalsBackward } from "../../../lib/operators/statistics/expert_totals_backward.js";
import { cvSquared } from "../../../lib/operators/statistics/imbalance.js";
import { loadBalancingLoss } from "../../../lib/operators/statistics/load_balancing_loss.js";
import { loadBalancingLossBackward } from "../../../lib/operators/statistics/load_balancing_loss_backward.js";
import { routerScores } from "../../../lib/operators/statistics/router_scores.js";
import { routerScoresBackward } from "../../../lib/operators/statistics/router_scores_backward.js";
import { zLoss } from "../../../lib/operators/statistics/z_loss.js";
import { zLossBackward } from "../../../lib/operators/statistics/z_loss_backward.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { centralDifferences, dot, gradientError } from "../../support/central_differences.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const reference = openDevice("reference", { poison: true });
const tolerance = 1e-7;

/** A batch of sequences in float64. */
interface Batch {
  sequences: number;
  /** Tokens in each. */
  length: number;
  experts: number;
  masked: boolean;
  seed: number;
}

const batches: fc.Arbitrary<Batch> = fc.record({
  sequences: fc.integer({ min: 1, max: 3 }),
  length: fc.integer({ min: 1, max: 3 }),
  experts: fc.integer({ min: 1, max: 5 }),
  masked: fc.boolean(),
  seed: fc.nat(),
});

function batchOf({ sequences, length, experts, masked, seed }: Batch) {
  const random = new Random(seed);
  const tokens = sequences * length;
  const topK = random.integer(1, experts);
  const ids = Array.from({ length: tokens }, () =>
    random.sample(topK, experts).map((id) => (random.uniform() < 0.2 ? -1 : id)),
  );
  const mask = Uint8Array.from({ length: tokens }, () => random.integer(0, 2));
  return {
    random,
    tokens,
    topK,
    logits: normals(random, tokens * experts, 1.5),
    matrix: (values: ArrayLike<number>) => float64(reference, values, [tokens, experts]),
    ids: reference.tensor(Int32Array.from(ids.flat()), [tokens, topK]),
    maskOption: masked ? { tokenMask: reference.tensor(mask) } : {},
  };
}

const scalar = (tensor: Tensor) => valuesOf(tensor)[0] as number;

describe("in float64", () => {
  test("routerScoresBackward is the derivative of scores, log-sum-exp and entropy", () => {
    const rules = fc.record({ scoring: fc.constantFrom(...expertScorings), normalize: fc.boolean() });
    fc.assert(
      fc.property(batches, rules, (sizes, rule) => {
        const { random, tokens, logits, matrix } = batchOf(sizes);
        const dScores = normals(random, logits.length);
        const [dLogSumExp, dEntropy] = [normals(random, tokens), normals(random, tokens)];
        const loss = (values: Float64Array) => {
          const { scores, logSumExp, entropy } = routerScores(matrix(values), rule);
          const parts = [
            [scores, dScores],
            [logSumExp, dLogSumExp],
            [entropy, dEntropy],
          ] as const;
          return parts.reduce((sum, [tensor, gradient]) => sum + dot(valuesOf(tensor), gradient), 0);
        };
        const vector = (values: Float64Array) => float64(reference, values, [tokens]);
        const gradients = { dScores: matrix(dScores), dLogSumExp: vector(dLogSumExp), dEntropy: vector(dEntropy) };
        const gradient = routerScoresBackward(matrix(logits), gradients, rule);
        expect(gradientError(valuesOf(gradient), logits, loss)).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("loadBalancingLossBackward is the derivative of the loss, the shares held constant", () => {
    const options = fc.record({
      scoring: fc.constantFrom(...expertScorings),
      choices: fc.constantFrom("all", "first"),
      normalization: fc.constantFrom("choices", "tokens"),
    });
    fc.assert(
      fc.property(batches, options, (sizes, rule) => {
        const { logits, matrix, ids, maskOption } = batchOf(sizes);
        const given = { ...rule, ...maskOption, sequences: sizes.sequences };
        const loss = (values: Float64Array) => -3 * scalar(loadBalancingLoss(matrix(values), ids, given));
        const gradient = loadBalancingLossBackward(matrix(logits), ids, { ...given, factor: -3 });
        expect(gradientError(valuesOf(gradient), logits, loss)).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("zLossBackward is the derivative of the loss", () => {
    fc.assert(
      fc.property(batches, (sizes) => {
        const { logits, matrix, maskOption } = batchOf(sizes);
        const loss = (values: Float64Array) => 2 * scalar(zLoss(matrix(values), maskOption));
        const gradient = zLossBackward(matrix(logits), { factor: 2, ...maskOption });
        expect(gradientError(valuesOf(gradient), logits, loss)).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("columnMeansBackward is the derivative of the means", () => {
    fc.assert(
      fc.property(batches, fc.boolean(), (sizes, square) => {
        const { random, logits, matrix, maskOption } = batchOf(sizes);
        const shape = [sizes.sequences, sizes.experts];
        const dMeans = normals(random, sizes.sequences * sizes.experts);
        const options = { square, ...maskOption };
        const loss = (values: Float64Array) =>
          dot(valuesOf(columnMeans(matrix(values), { sequences: sizes.sequences, ...options })), dMeans);
        const gradient = columnMeansBackward(matrix(logits), float64(reference, dMeans, shape), options);
        expect(gradientError(valuesOf(gradient), logits, loss)).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("cvSquaredBackward is the derivative of the coefficient", () => {
    const options = fc.record({ unbiased: fc.boolean(), epsilon: fc.constantFrom(1e-10, 0.5) });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), options, fc.nat(), (count, given, seed) => {
        const values = normals(new Random(seed), count, 0.5).map((value) => 2 + value);
        const tensor = (all: Float64Array) => float64(reference, all, [count]);
        const loss = (all: Float64Array) => 5 * scalar(cvSquared(tensor(all), given));
        const gradient = cvSquaredBackward(tensor(values), { ...given, factor: 5 });
        expect(gradientError(valuesOf(gradient), values, loss)).toBeLessThanOrEqual(1e-6);
      }),
    );
  });

  test("expertTotalsBackward is the derivative of the sums", () => {
    fc.assert(
      fc.property(batches, fc.nat(), (sizes, some) => {
        const { random, tokens, topK, ids, maskOption } = batchOf(sizes);
        const { sequences, experts } = sizes;
        const weights = normals(random, tokens * topK);
        const dSums = normals(random, sequences * experts);
        const options = { choices: some % (topK + 1), ...maskOption };
        const loss = (values: Float64Array) => {
          const given = { numExperts: experts, sequences, weights: float64(reference, values, [tokens, topK]) };
          return dot(valuesOf(expertTotals(ids, { ...given, ...options }).weights), dSums);
        };
        const gradient = expertTotalsBackward(ids, float64(reference, dSums, [sequences, experts]), options);
        expect(gradientError(valuesOf(gradient), weights, loss)).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("the importance loss of noisy top-k gating goes back to the logits", () => {
    const [tokens, experts] = [6, 4];
    const random = new Random("importance");
    const logits = normals(random, tokens * experts);
    const rule = { topK: 2, scoring: "softmax_selected" } as const;
    const matrix = (values: Float64Array) => float64(reference, values, [tokens, experts]);
    const importance = (values: Float64Array) => {
      const { ids, weights } = gating(matrix(values), rule);
      return { ids, sums: expertTotals(ids, { numExperts: experts, weights }).weights };
    };
    const loss = (values: Float64Array) => scalar(cvSquared(importance(values).sums));
    const { ids, sums } = importance(logits);
    const gradient = gatingBackward(matrix(logits), { ids }, expertTotalsBackward(ids, cvSquaredBackward(sums)), rule);
    const exact = centralDifferences(logits, loss);
    expect(relativeError(valuesOf(gradient), exact)).toBeLessThanOrEqual(1e-6);
    // With one expert's gradient left out it is another.
    const partial = valuesOf(cvSquaredBackward(sums)).fill(0, 0, 1);
    const wrong = expertTotalsBackward(ids, float64(reference, partial, [1, experts]));
    expect(relativeError(valuesOf(gatingBackward(matrix(logits), { ids }, wrong, rule)), exact)).toBeGreaterThan(0.01);
  });
});

describe.each(kernelPaths)("gradients of losses on $label", (path) => {
  const device = openForTests(path);
  const { NaN: nan } = Number;

  test("a masked token gets 0, whatever its logits are", () => {
    const logits = device().tensor([
      [1, 2, 3],
      [nan, Infinity, nan],
      [2, 1, 0],
    ]);
    const tokenMask = device().tensor(Uint8Array.of(1, 0, 1));
    const ids = device().tensor(Int32Array.of(2, 0, 0), [3, 1]);
    for (const gradient of [
      zLossBackward(logits, { tokenMask }),
      loadBalancingLossBackward(logits, ids, { tokenMask }),
    ]) {
      const rows = gradient.toArraySync() as number[][];
      expect(rows[1]).toEqual([0, 0, 0]);
      expect(rows.flat().every(Number.isFinite)).toBe(true);
      expect(rows[0]?.[0]).not.toBe(0);
    }
  });

  test("NaN stays in its token", () => {
    const logits = device().tensor([
      [1, 2, 3],
      [3, 2, 1],
    ]);
    const dScores = device().tensor([
      [1, 2, 3],
      [1, nan, 1],
    ]);
    const rows = routerScoresBackward(logits, { dScores }).toArraySync() as number[][];
    expect(rows[0]?.every(Number.isFinite)).toBe(true);
    expect(rows[1]?.every(Number.isNaN)).toBe(true);
  });

  test.each(["softmax", "sigmoid"] as const)("a %s score of 0 does not hide NaN", (scoring) => {
    const logits = device().tensor([[-200, 1, 0]]);
    const dScores = device().tensor([[nan, 1, 2]]);
    const rows = routerScoresBackward(logits, { dScores }, { scoring, normalize: true }).toArraySync();
    expect(rows).toEqual([[nan, nan, nan]]);
  });

  test("scores that are all 0 have no gradient", () => {
    const logits = device().tensor([[-1000, -2000]]);
    const dScores = device().tensor([[1, 2]]);
    const rows = routerScoresBackward(logits, { dScores }, { scoring: "sigmoid", normalize: true }).toArraySync();
    expect(rows).toEqual([[0, 0]]);
  });

  test("bad arguments", () => {
    const floats = (...shape: number[]) => device().zeros(shape, "f32");
    const ids = device().zeros([4, 2], "i32");
    expectError(
      () => routerScoresBackward(floats(2, 3), {}),
      "INVALID_ARGUMENT",
      /^gradients: expected at least one of/,
    );
    const dScores = floats(2, 2);
    expectError(
      () => routerScoresBackward(floats(2, 3), { dScores }),
      "SHAPE_MISMATCH",
      /^gradients\.dScores: expected/,
    );
    expectError(
      () => columnMeansBackward(floats(4, 3), floats(3, 3)),
      "INVALID_ARGUMENT",
      /^sequences: expected a div/,
    );
    expectError(() => expertTotalsBackward(ids, floats(3, 3)), "INVALID_ARGUMENT", /^sequences: expected a divisor/);
    expectError(() => expertTotalsBackward(ids, floats(1, 3), { choices: 3 }), "INVALID_ARGUMENT", /^choices: /);
    expectError(() => zLossBackward(floats(4, 3), { factor: nan }), "INVALID_ARGUMENT", /^factor: expected a finite/);
    const loss = () => loadBalancingLossBackward(floats(4, 3), ids, { sequences: 3 });
    expectError(loss, "INVALID_ARGUMENT", /^sequences: expected a divisor of 4 tokens, got 3/);
    const counts = device().zeros([3], "i32") as unknown as Tensor<"f32">;
    expectError(() => cvSquaredBackward(counts), "UNSUPPORTED_DTYPE", /^values: expected dtype f32, got i32/);
  });
});
