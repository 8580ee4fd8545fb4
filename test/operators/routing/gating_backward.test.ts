import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Scoring, scorings } from "../../../lib/core/layer/routing_rule.js";
import { openDevice } from "../../../lib/devices.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { gatingBackward } from "../../../lib/operators/routing/gating_backward.js";
import type { GatingRuleOptions } from "../../../lib/operators/routing/gating_options.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { centralDifferences, dot, gradientError } from "../../support/central_differences.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
const reference = openDevice("reference", { poison: true });

interface Problem {
  tokens: number;
  groupSize: number;
  groupCount: number;
  seed: number;
  biased: boolean;
  rule: GatingRuleOptions;
}

const normalizations: readonly NonNullable<GatingRuleOptions["normalize"]>[] = [
  false,
  true,
  { by: "sum_plus_epsilon", epsilon: 0.5 },
  { by: "clamped_sum", epsilon: 0.4 },
  { by: "lp", power: 2 },
  { by: "lp", power: 3.5 },
];

/** Any rule, with what it is applied to. */
const problems: fc.Arbitrary<Problem> = fc
  .record({
    tokens: fc.integer({ min: 1, max: 3 }),
    groupSize: fc.integer({ min: 1, max: 4 }),
    groupCount: fc.integer({ min: 1, max: 3 }),
    share: fc.double({ min: 0, max: 1, noNaN: true }),
    scoring: fc.constantFrom(...scorings),
    normalize: fc.constantFrom(...normalizations),
    scale: fc.constantFrom(1, -2.5),
    grouped: fc.boolean(),
    biased: fc.boolean(),
    byLogit: fc.boolean(),
    seed: fc.nat(),
  })
  .map(({ share, scoring, normalize, scale, grouped, biased, byLogit, ...sizes }) => {
    const experts = sizes.groupCount * sizes.groupSize;
    const topK = 1 + Math.floor(share * (experts - 1));
    const top = Math.ceil(topK / sizes.groupSize);
    const sparse = scoring === "sparsemixer";
    const rule: GatingRuleOptions = {
      topK,
      scoring,
      normalize: scoring === "none" && !(typeof normalize === "object" && normalize.by === "lp") ? false : normalize,
      scale,
      ...(grouped && !sparse && { groups: { count: sizes.groupCount, top } }),
      ...(byLogit && { selectionKey: "logit" as const }),
      ...(sparse && { jitter: 0.3 }),
    };
    return { ...sizes, biased: biased && !sparse, rule };
  });

/** A gate in float64, the gradients of its weights, and the loss whose gradients these are. */
function gateOf({ tokens, groupSize, groupCount, seed, biased, rule }: Problem) {
  const random = new Random(seed);
  const experts = groupCount * groupSize;
  const selectionBias = biased ? { selectionBias: float64(reference, normals(random, experts, 0.2), [experts]) } : {};
  const route = (values: Float64Array) =>
    gating(float64(reference, values, [tokens, experts]), { ...rule, ...selectionBias });
  const logits = normals(random, tokens * experts, 1.5);
  const { ids } = route(logits);
  const chosen = ids.dataSync();
  const dWeights = normals(random, tokens * rule.topK);
  let steady = true;
  const loss = (values: Float64Array) => {
    const moved = route(values);
    steady &&= moved.ids.dataSync().every((id, slot) => id === chosen[slot]);
    return dot(valuesOf(moved.weights), dWeights);
  };
  const gradient = (rest: Partial<GatingRuleOptions> = {}) =>
    valuesOf(
      gatingBackward(
        float64(reference, logits, [tokens, experts]),
        { ids },
        float64(reference, dWeights, [tokens, rule.topK]),
        { ...rule, ...rest },
      ),
    );
  return { logits, loss, gradient, isSteady: () => steady };
}

describe("gatingBackward in float64", () => {
  test("is the derivative of the weights, the choice held fixed", () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const { logits, loss, gradient, isSteady } = gateOf(problem);
        const error = gradientError(gradient(), logits, loss);
        fc.pre(isSteady());
        expect(error).toBeLessThanOrEqual(1e-6);
      }),
      { numRuns: 500 },
    );
  });

  test("a term left out and a row dropped would show", () => {
    const sizes = { tokens: 3, groupSize: 3, groupCount: 3, seed: 1, biased: false };
    for (const scoring of ["softmax", "softmax_selected", "sigmoid", "sqrt_softplus"] as const) {
      const { logits, loss, gradient } = gateOf({ ...sizes, rule: { topK: 3, scoring, normalize: true } });
      const exact = centralDifferences(logits, loss);
      expect(relativeError(gradient(), exact)).toBeLessThanOrEqual(1e-6);
      // A softmax over the chosen is normalised already.
      if (scoring !== "softmax_selected")
        expect(relativeError(gradient({ normalize: false }), exact)).toBeGreaterThan(0.01);
      const withoutRow = gradient().fill(0, 0, 9);
      expect(relativeError(withoutRow, exact)).toBeGreaterThan(0.01);
    }
  });

  test("a choice of -1 is as one that was not made", () => {
    fc.assert(
      fc.property(problems, fc.nat(), ({ tokens, groupCount, groupSize, seed, rule }, dropped) => {
        const random = new Random(seed);
        const experts = groupCount * groupSize;
        const { topK } = rule;
        fc.pre(topK > 1);
        const { groups: _, ...fixed } = rule;
        const choices = Array.from({ length: tokens }, () => random.sample(topK, experts));
        const logits = float64(reference, normals(random, tokens * experts), [tokens, experts]);
        const dWeights = Array.from({ length: tokens }, () => normals(random, topK));
        const gradient = (ids: number[][], weights: ArrayLike<number>[]) => {
          const shape = [tokens, ids[0]?.length as number];
          const routing = { ids: reference.tensor(Int32Array.from(ids.flat()), shape) };
          const flat = float64(
            reference,
            weights.flatMap((row) => Array.from(row)),
            shape,
          );
          return valuesOf(gatingBackward(logits, routing, flat, { ...fixed, topK: shape[1] as number }));
        };
        const slot = dropped % topK;
        const kept = <T>(row: ArrayLike<T>) => Array.from(row).filter((_value, i) => i !== slot);
        const some = gradient(
          choices.map((row) => row.with(slot, -1)),
          dWeights.map((row) => row.with(slot, nan)),
        );
        expect(relativeError(some, gradient(choices.map(kept), dWeights.map(kept)), 1)).toBeLessThanOrEqual(1e-14);
      }),
    );
  });

  test("sparsemixer is the estimator of Phi-3.5-MoE, also for experts that are not the best", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 9 }),
        fc.double({ min: 0.01, max: 2, noNaN: true }),
        fc.nat(),
        (experts, jitter, seed) => {
          const random = new Random(seed);
          const logits = normals(random, experts, 2);
          const ids = random.sample(2, experts);
          const dWeights = normals(random, 2);
          const gradient = gatingBackward(
            float64(reference, logits, [1, experts]),
            { ids: reference.tensor(Int32Array.from(ids), [1, 2]) },
            float64(reference, dWeights, [1, 2]),
            { topK: 2, scoring: "sparsemixer", jitter },
          );
          expect(relativeError(valuesOf(gradient), estimate(logits, ids, dWeights, jitter), 1)).toBeLessThanOrEqual(
            1e-14,
          );
        },
      ),
    );
  });
});

/** The backward function of Phi-3.5-MoE's `mp`, for each slot with the gates that are masked for it. */
function estimate(scores: Float64Array, ids: number[], gradients: Float64Array, jitter: number): number[] {
  const result = [...scores].map(() => 0);
  const masked = [...scores];
  for (const [slot, selected] of ids.entries()) {
    const threshold = Math.max(...masked);
    const gates = masked.map((score, e) => {
      const factor = Math.max(Math.abs(scores[e] as number), threshold);
      return (threshold - (scores[e] as number)) / factor > 2 * jitter ? 0 : Math.exp(score - threshold);
    });
    const sum = gates.reduce((a, b) => a + b);
    const multiplier = (gates[selected] as number) / sum;
    const gradient = (gradients[slot] as number) * multiplier;
    for (const e of result.keys()) result[e] = (result[e] as number) - ((gates[e] as number) / sum) * gradient;
    result[selected] = (result[selected] as number) + gradient;
    masked[selected] = -Infinity;
  }
  return result;
}

describe.each(kernelPaths)("gatingBackward on $label", (path) => {
  const device = openForTests(path);
  const integers = (rows: number[][]) =>
    device().tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]?.length as number]);
  const gradient = (logits: number[][], ids: number[][], dWeights: number[][], options: GatingRuleOptions) =>
    gatingBackward(
      device().tensor(logits),
      { ids: integers(ids) },
      device().tensor(dWeights),
      options,
    ).toArraySync() as number[][];

  test.each(scorings)("NaN stays in its token (%s)", (scoring: Scoring) => {
    const logits = [
      [1, 2, 3],
      [3, 2, 1],
      [0, 1, 2],
    ];
    const ids = [
      [2, 1],
      [0, 1],
      [2, 1],
    ];
    const clean = gradient(
      logits,
      ids,
      [
        [1, 2],
        [0, 0],
        [3, 4],
      ],
      { topK: 2, scoring },
    );
    const [first, second, third] = gradient(
      logits,
      ids,
      [
        [1, 2],
        [nan, 1],
        [3, 4],
      ],
      { topK: 2, scoring },
    );
    expect([first, third]).toEqual([clean[0], clean[2]]);
    expect(second?.[0]).toBeNaN();
  });

  test.each(scorings)("logits that are not finite, and rows without a finite one, get 0 (%s)", (scoring: Scoring) => {
    const logits = [
      [nan, 1, 2],
      [infinity, 1, -infinity],
      [nan, infinity, -infinity],
    ];
    const ids = [
      [2, 0],
      [0, 2],
      [1, 0],
    ];
    const rows = gradient(
      logits,
      ids,
      [
        [1, 2],
        [3, 4],
        [nan, 6],
      ],
      { topK: 2, scoring },
    );
    expect(rows[0]?.[0]).toBe(0);
    expect(Number.isFinite(rows[0]?.[2])).toBe(true);
    expect([rows[1]?.[0], rows[1]?.[2]]).toEqual([0, 0]);
    expect(rows[2]).toEqual([0, 0, 0]);
  });

  test("what is not finite goes as far as the divisor and the softmax reach", () => {
    const through = (options: Omit<GatingRuleOptions, "topK">) =>
      gradient([[0.5, 1, 2]], [[2, 1]], [[nan, 1]], { topK: 2, ...options })[0]?.map(Number.isNaN);
    expect(through({ scoring: "sigmoid" })).toEqual([false, false, true]);
    expect(through({ scoring: "sigmoid", normalize: true })).toEqual([false, true, true]);
    expect(through({ scoring: "softmax" })).toEqual([true, true, true]);
    expect(through({ scoring: "softmax", normalize: true })).toEqual([true, true, true]);
    expect(through({ scoring: "softmax_selected" })).toEqual([false, true, true]);
  });

  test("a choice that is made twice counts twice", () => {
    const rows = gradient([[0, 0, 0]], [[1, 1]], [[1, 2]], { topK: 2 });
    expect(rows[0]?.[1]).toBeCloseTo((3 * (1 - 1 / 3)) / 3, 6);
  });

  test("an id out of range is reported, and gets nothing", async () => {
    const ids = integers([[1], [7]]);
    using result = gatingBackward(device().zeros([2, 3], "f32"), { ids }, device().zeros([2, 1], "f32"), { topK: 1 });
    const message = /^gatingBackward: routing\.ids\[1, 0\]: expected -1 or an expert from 0 to 2, got 7$/;
    await expectRejection(result.data(), "ID_OUT_OF_RANGE", message);
    expect(await result.toArray()).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });

  test("bad arguments", () => {
    const floats = (...shape: number[]) => device().zeros(shape, "f32");
    const ids = device().zeros([2, 1], "i32");
    const call =
      (options: object, dWeights = floats(2, 1)) =>
      () =>
        gatingBackward(floats(2, 3), { ids }, dWeights, { topK: 1, ...options });
    expectError(call({ topK: 2 }), "SHAPE_MISMATCH", /^routing\.ids: expected shape \[2, 2\], got \[2, 1\]/);
    expectError(call({}, floats(2, 2)), "SHAPE_MISMATCH", /^dWeights: expected shape \[2, 1\]/);
    expectError(call({ scoring: "tanh" }), "INVALID_ARGUMENT", /^scoring: /);
    expectError(call({ out: floats(2, 2) }), "SHAPE_MISMATCH", /^out: expected shape \[2, 3\]/);
    const dWeights = floats(2, 1);
    const overlapping = () => gatingBackward(floats(2, 1), { ids }, dWeights, { topK: 1, out: dWeights });
    expectError(overlapping, "INVALID_ARGUMENT", /^out: expected memory of its own/);
    const routing = {} as { ids: typeof ids };
    expectError(
      () => gatingBackward(floats(2, 3), routing, floats(2, 1), { topK: 1 }),
      "INVALID_ARGUMENT",
      /^routing\.ids: expected a Tensor, got undefined/,
    );
  });
});
