import { describe, expect, test } from "vitest";
import { gating } from "../../../lib/operators/routing/gating.js";
import type { GatingRuleOptions } from "../../../lib/operators/routing/gating_options.js";
import { type GatingWeightsOptions, gatingWeights } from "../../../lib/operators/routing/gating_weights.js";
import { lookUpExperts } from "../../../lib/operators/routing/look_up_experts.js";
import { Random } from "../../../lib/testing/random.js";
import { relativeError } from "../../../lib/testing/run.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

describe.each(kernelPaths)("on $label", (path) => {
  const device = openForTests(path);
  const matrix = (rows: readonly (readonly number[])[]) => device().tensor(rows, [rows.length, rows[0]?.length ?? 0]);
  const idsOf = (rows: readonly (readonly number[])[]) => {
    return { ids: device().tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]) };
  };

  test.each<GatingRuleOptions>([
    { topK: 3 },
    { topK: 3, scoring: "softmax_selected", scale: 2 },
    { topK: 4, scoring: "sigmoid", normalize: true, groups: { count: 4, top: 2, score: "top2_sum" } },
    { topK: 3, scoring: "sqrt_softplus", selectionKey: "logit", normalize: { by: "lp", power: 2 } },
    { topK: 2, scoring: "sparsemixer", jitter: 0.2 },
  ])("the weights of what gating chose by %o are gating's", async (rule) => {
    const logits = device().tensor(new Random("logits").normals(9 * 16, 2), [9, 16]);
    const { ids, weights } = gating(logits, rule);
    expect(relativeError(await gatingWeights(logits, { ids }, rule).data(), await weights.data())).toBeLessThan(3e-6);
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
