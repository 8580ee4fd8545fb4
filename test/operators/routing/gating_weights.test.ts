import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { gating } from "../../../lib/operators/routing/gating.js";
import type { GatingRuleOptions } from "../../../lib/operators/routing/gating_options.js";
import { type GatingWeightsOptions, gatingWeights } from "../../../lib/operators/routing/gating_weights.js";
import { lookUpExperts } from "../../../lib/operators/routing/look_up_experts.js";
import { logitKinds } from "../../../lib/testing/cases/gating.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { anyRouting } from "../../support/random_layer.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

describe.each(kernelPaths)("on $label", (path) => {
  const device = openForTests(path);
  const matrix = (rows: readonly (readonly number[])[]) => device().tensor(rows, [rows.length, rows[0]?.length ?? 0]);
  const idsOf = (rows: readonly (readonly number[])[]) => {
    return { ids: device().tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]) };
  };

  const anyProblem = fc.record({
    rule: anyRouting(50),
    tokens: fc.integer({ min: 1, max: 40 }),
    jitter: fc.constantFrom(0, 0.01, 0.5),
    biased: fc.boolean(),
    kind: fc.constantFrom(...(["normal", "tied", "extreme", "non_finite"] as const)),
    dtype: fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
    seed: fc.nat(),
  });

  test("the weights of what gating chose are gating's, bit for bit, by any rule", async () => {
    const property = fc.asyncProperty(
      anyProblem,
      async ({ rule: routing, tokens, jitter, kind, dtype, ...problem }) => {
        const { numExperts, ...drawn } = routing;
        const sparse = drawn.scoring === "sparsemixer";
        const rule = sparse ? { ...drawn, jitter } : drawn;
        const random = new Random(problem.seed);
        const rows = Array.from({ length: tokens }, () => [...logitKinds[kind](random, numExperts)]);
        const logits = device().tensor(rows, [tokens, numExperts], dtype);
        const selectionBias = device().tensor(random.normals(numExperts, 0.2), [numExperts]);
        const { ids, weights } = gating(logits, { ...rule, ...(problem.biased && !sparse && { selectionBias }) });
        expect(await gatingWeights(logits, { ids }, rule).data()).toEqual(await weights.data());
      },
    );
    await fc.assert(property, { numRuns: path.label === "simt" ? 150 : 400 });
  });

  test("SparseMixer takes zeros of both signs for equal", async () => {
    const logits = matrix([
      [-0, 0, -0],
      [0, -0, -9],
    ]);
    const rule = { topK: 1, scoring: "sparsemixer", jitter: 0 } as const;
    const { ids, weights } = gating(logits, rule);
    expect([...(await weights.data())]).toEqual([Math.fround(1 / 3), 0.5]);
    expect(await gatingWeights(logits, { ids }, rule).data()).toEqual(await weights.data());
  });

  test("logits of both zeros have the weights of gating", async () => {
    const logits = matrix([
      [-0, -1],
      [0, -0],
    ]);
    const rule = { topK: 2, scoring: "none" } as const;
    const { ids, weights } = gating(logits, rule);
    expect(await gatingWeights(logits, { ids }, rule).data()).toEqual(await weights.data());
  });

  test("any choice has the scores of its experts, normalised and scaled", async () => {
    const logits = matrix([
      [0, 1, -1, 2],
      [3, 0, 0, -2],
    ]);
    const softplus = (x: number) => Math.sqrt(Math.log1p(Math.exp(x)));
    const choice = idsOf([
      [2, 0],
      [3, 1],
    ]);
    const rule = { topK: 2, scoring: "sqrt_softplus", normalize: true, scale: 1.5 } as const;
    const [first, second] = [softplus(-1) + softplus(0), softplus(-2) + softplus(0)];
    const expected = [softplus(-1) / first, softplus(0) / first, softplus(-2) / second, softplus(0) / second];
    const weights = await gatingWeights(logits, choice, rule).data();
    expect(
      relativeError(
        weights,
        expected.map((weight) => 1.5 * weight),
      ),
    ).toBeLessThan(1e-6);
  });

  test("-1 has no share, and an expert that is there twice has two", async () => {
    const logits = matrix([[0, Math.log(3), 0, 0]]);
    const weightsOf = async (ids: number[], rule: Omit<GatingRuleOptions, "topK">) => {
      return [...(await gatingWeights(logits, idsOf([ids]), { topK: ids.length, ...rule }).data())];
    };
    const near = (values: number[]) => values.map((value) => expect.closeTo(value, 6));
    expect(await weightsOf([1, -1, 0], { scoring: "sigmoid", normalize: true })).toEqual(near([0.6, 0, 0.4]));
    expect(await weightsOf([1, -1, 0], { scoring: "softmax_selected" })).toEqual(near([0.75, 0, 0.25]));
    expect(await weightsOf([1, 1, 0], { scoring: "softmax_selected" })).toEqual(near([3 / 7, 3 / 7, 1 / 7]));
    expect(await weightsOf([-1, -1], { scoring: "softmax", normalize: true })).toEqual([0, 0]);
    expect(await weightsOf([2, 1], {})).toEqual(near([1 / 6, 0.5]));
    expect(await weightsOf([1, 1], { scoring: "sparsemixer", jitter: 0.1 })).toEqual([1, 0]);
  });

  test("rows without a finite logit have weights 0 and are counted", async () => {
    const logits = matrix([
      [nan, -infinity, infinity],
      [nan, 0, 1],
    ]);
    const before = device().warnings.nonFiniteLogitRows;
    const weights = await gatingWeights(logits, idsOf([[2], [0]]), { topK: 1, scoring: "sigmoid" }).data();
    expect([...weights]).toEqual([0, 0]);
    expect(device().warnings.nonFiniteLogitRows).toBe(before + 1);
  });

  test("an id out of range counts as -1 and is reported", async () => {
    const logits = matrix([[0, 0, 0]]);
    for (const id of [3, -2]) {
      const weights = gatingWeights(logits, idsOf([[1, id]]), { topK: 2, scoring: "sigmoid", normalize: true });
      const message = new RegExp(
        `gatingWeights: routing\\.ids\\[0, 1\\]: expected -1 or an expert from 0 to 2, got ${id}`,
      );
      await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", message);
      expect([...(await weights.data())]).toEqual([1, 0]);
    }
  });

  test("the square root of softplus is e^(x/2) far below 0", async () => {
    const logits = matrix([[-90], [-150], [30]]);
    const weights = await gatingWeights(logits, idsOf([[0], [0], [0]]), { topK: 1, scoring: "sqrt_softplus" }).data();
    const expected = [Math.exp(-45), Math.exp(-75), Math.sqrt(30)];
    expected.forEach((exact, index) => {
      expect((weights[index] as number) / exact).toBeCloseTo(1, 5);
    });
  });

  test("token ids name the rows of a table", async () => {
    const table = device().tensor([
      [3, 1],
      [0, 2],
      [7, 5],
    ]);
    const out = device().empty([4, 2], "i32");
    const integers = device().tensor(Int32Array.from([3, 1, 0, 2, 7, 5]), [3, 2]);
    const tokenIds = device().tensor(Int32Array.from([2, -1, 0, 2]));
    expect(await lookUpExperts(integers, tokenIds, { out }).toArray()).toEqual([
      [7, 5],
      [-1, -1],
      [3, 1],
      [7, 5],
    ]);
    for (const id of [3, -2]) {
      const found = lookUpExperts(integers, device().tensor(Int32Array.from([0, id])));
      const message = new RegExp(`lookUpExperts: tokenIds\\[1\\]: expected -1 or a token id from 0 to 2, got ${id}`);
      await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", message);
      expect(await found.toArray()).toEqual([
        [3, 1],
        [-1, -1],
      ]);
    }
    const floats = table as never;
    expectError(() => lookUpExperts(floats, tokenIds), "UNSUPPORTED_DTYPE", /table: expected dtype i32, got f32/);
    expectError(() => lookUpExperts(integers, integers as never), "SHAPE_MISMATCH", /tokenIds: expected shape/);
  });

  test("what makes no sense is refused by name", () => {
    const logits = matrix([[0, 1, 2]]);
    const weights = (options: GatingWeightsOptions) => () => gatingWeights(logits, idsOf([[1, 0]]), options);
    expectError(weights({ topK: 1 }), "SHAPE_MISMATCH", /routing\.ids: expected shape \[1, 1\]/);
    expectError(weights({ topK: 4 }), "INVALID_ARGUMENT", /topK: expected an integer from 1 to 3, got 4/);
    const biased = { topK: 2, selectionBias: device().zeros([3], "f32") };
    expectError(weights(biased), "INVALID_ARGUMENT", /there is no option "selectionBias"/);
    const given = { ids: logits } as never;
    expectError(
      () => gatingWeights(logits, given, { topK: 3 }),
      "UNSUPPORTED_DTYPE",
      /routing\.ids: expected dtype i32/,
    );
  });
});
