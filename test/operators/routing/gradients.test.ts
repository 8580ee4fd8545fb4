import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expertScorings } from "../../../lib/core/layer/routing_rule.js";
import { openDevice } from "../../../lib/devices.js";
import { expertChoice } from "../../../lib/operators/routing/expert_choice.js";
import { expertChoiceBackward } from "../../../lib/operators/routing/expert_choice_backward.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { gatingBackward } from "../../../lib/operators/routing/gating_backward.js";
import type { GatingRuleOptions } from "../../../lib/operators/routing/gating_options.js";
import { hierarchicalGating } from "../../../lib/operators/routing/hierarchical_gating.js";
import { hierarchicalGatingBackward } from "../../../lib/operators/routing/hierarchical_gating_backward.js";
import { limitCapacity } from "../../../lib/operators/routing/limit_capacity.js";
import { limitCapacityBackward } from "../../../lib/operators/routing/limit_capacity_backward.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { centralDifferences, dot, gradientError } from "../../support/central_differences.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const reference = openDevice("reference", { poison: true });
const tolerance = 1e-6;

/** Whether routings that were computed one after another chose the same experts. */
function steadiness() {
  let first: Int32Array | undefined;
  let steady = true;
  return {
    see(ids: Int32Array) {
      first ??= ids;
      steady &&= ids.every((id, slot) => id === first?.[slot]);
    },
    isSteady: () => steady,
  };
}

/** A rule of a gate over this many experts. */
const rulesOf = (experts: number): fc.Arbitrary<GatingRuleOptions> =>
  fc.record({
    topK: fc.integer({ min: 1, max: experts }),
    scoring: fc.constantFrom("softmax", "softmax_selected", "sigmoid", "sqrt_softplus"),
    normalize: fc.constantFrom(true, false, { by: "lp" as const, power: 2 }),
    scale: fc.constantFrom(1, 2.5),
  });

describe("in float64", () => {
  test("hierarchicalGatingBackward is the derivative of the weights by both gates' logits", () => {
    const problems = fc
      .record({ groups: fc.integer({ min: 1, max: 4 }), size: fc.integer({ min: 1, max: 4 }) })
      .chain(({ groups, size }) =>
        fc.record({
          groups: fc.constant(groups),
          size: fc.constant(size),
          rules: fc.record({ groups: rulesOf(groups), experts: rulesOf(size) }),
          seed: fc.nat(),
        }),
      );
    fc.assert(
      fc.property(problems, ({ groups, size, rules, seed }) => {
        const random = new Random(seed);
        const [tokens, slots] = [2, rules.groups.topK * rules.experts.topK];
        const groupLogits = normals(random, tokens * groups);
        const logits = normals(random, tokens * groups * size);
        const dWeights = normals(random, tokens * slots);
        const tensors = (a: Float64Array, b: Float64Array) =>
          [float64(reference, a, [tokens, groups]), float64(reference, b, [tokens, groups * size])] as const;
        const { ids } = hierarchicalGating(...tensors(groupLogits, logits), rules);
        const { see, isSteady } = steadiness();
        see(ids.dataSync());
        const loss = (a: Float64Array, b: Float64Array) => {
          const moved = hierarchicalGating(...tensors(a, b), rules);
          see(moved.ids.dataSync());
          return dot(valuesOf(moved.weights), dWeights);
        };
        const gradient = float64(reference, dWeights, [tokens, slots]);
        const given = [...tensors(groupLogits, logits), { ids }, gradient] as const;
        const { dGroupLogits, dLogits } = hierarchicalGatingBackward(...given, rules);
        const errors = [
          gradientError(valuesOf(dGroupLogits), groupLogits, (values) => loss(values, logits)),
          gradientError(valuesOf(dLogits), logits, (values) => loss(groupLogits, values)),
        ];
        fc.pre(isSteady());
        for (const error of errors) expect(error).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("expertChoiceBackward is the derivative of the weights", () => {
    const sizes = fc.record({
      tokens: fc.integer({ min: 1, max: 5 }),
      experts: fc.integer({ min: 1, max: 5 }),
      scoring: fc.constantFrom(...expertScorings),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(sizes, ({ tokens, experts, scoring, seed }) => {
        const random = new Random(seed);
        const matrix = (values: Float64Array) => float64(reference, values, [tokens, experts]);
        const [logits, dWeights] = [normals(random, tokens * experts), normals(random, tokens * experts)];
        const choose = (values: Float64Array) => expertChoice(matrix(values), { factor: 1.5, scoring });
        const choice = choose(logits);
        const { see, isSteady } = steadiness();
        see(choice.ids.dataSync());
        const loss = (values: Float64Array) => {
          const moved = choose(values);
          see(moved.ids.dataSync());
          return dot(valuesOf(moved.weights), dWeights);
        };
        const gradient = expertChoiceBackward(matrix(logits), choice, matrix(dWeights), { scoring });
        const error = gradientError(valuesOf(gradient), logits, loss);
        fc.pre(isSteady());
        expect(error).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  const renormalizations = [false, true, { by: "kept", scale: 2 }, { by: "chosen", scale: 2 }] as const;

  test("through a capacity, limitCapacityBackward and gatingBackward are the derivative of the kept weights", () => {
    const problems = fc.record({
      tokens: fc.integer({ min: 1, max: 6 }),
      experts: fc.integer({ min: 1, max: 5 }),
      rank: fc.nat(),
      capacity: fc.integer({ min: 0, max: 4 }),
      renormalize: fc.constantFrom(...renormalizations),
      normalize: fc.boolean(),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(problems, ({ tokens, experts, rank, capacity, renormalize, normalize, seed }) => {
        const random = new Random(seed);
        const rule = { topK: 1 + (rank % experts), scoring: "sigmoid", normalize } as const;
        const matrix = (values: Float64Array) => float64(reference, values, [tokens, experts]);
        const logits = normals(random, tokens * experts);
        const dKept = normals(random, tokens * rule.topK);
        const limit = { numExperts: experts, tokens: capacity, renormalize };
        const route = (values: Float64Array) => {
          const routing = gating(matrix(values), rule);
          return { routing, kept: limitCapacity(routing, limit) };
        };
        const { routing, kept } = route(logits);
        const { see, isSteady } = steadiness();
        see(routing.ids.dataSync());
        const loss = (values: Float64Array) => {
          const moved = route(values);
          see(moved.routing.ids.dataSync());
          return dot(valuesOf(moved.kept.weights), dKept);
        };
        const dKeptWeights = float64(reference, dKept, [tokens, rule.topK]);
        const dWeights = limitCapacityBackward(routing, kept, dKeptWeights, { renormalize });
        const gradient = valuesOf(gatingBackward(matrix(logits), routing, dWeights, rule));
        const exact = centralDifferences(logits, loss);
        fc.pre(isSteady());
        expect(relativeError(gradient, exact, 1)).toBeLessThanOrEqual(tolerance);
        // Without any division, the kept ids themselves drop what was dropped.
        if (normalize || renormalize !== false) return;
        const direct = valuesOf(gatingBackward(matrix(logits), kept, dKeptWeights, rule));
        expect(relativeError(direct, exact, 1)).toBeLessThanOrEqual(tolerance);
      }),
    );
  });
});

describe.each(kernelPaths)("gradients of routing on $label", (path) => {
  const device = openForTests(path);
  const floats = (...shape: number[]) => device().zeros(shape, "f32");
  const integers = (...shape: number[]) => device().zeros(shape, "i32");

  test("a dropped choice's gradient is not read", () => {
    const ids = device().tensor(Int32Array.of(0, 1, 2, 0), [2, 2]);
    const kept = { ids: device().tensor(Int32Array.of(0, -1, 2, 0), [2, 2]) };
    const weights = device().tensor([
      [1, 2],
      [3, 4],
    ]);
    const dKept = device().tensor([
      [5, Number.NaN],
      [6, 7],
    ]);
    expect(limitCapacityBackward({ ids, weights }, kept, dKept).toArraySync()).toEqual([
      [5, 0],
      [6, 7],
    ]);
  });

  test("NaN stays in its token", () => {
    const ids = device().tensor(Int32Array.of(0, 3, 0, 3), [2, 2]);
    const dWeights = device().tensor([
      [1, 2],
      [1, Number.NaN],
    ]);
    const rules = { groups: { topK: 2 }, experts: { topK: 1 } };
    const { dGroupLogits, dLogits } = hierarchicalGatingBackward(floats(2, 2), floats(2, 4), { ids }, dWeights, rules);
    for (const rows of [dGroupLogits.toArraySync(), dLogits.toArraySync()] as number[][][]) {
      expect(rows[0]?.every(Number.isFinite)).toBe(true);
      expect(rows[1]?.some(Number.isNaN)).toBe(true);
    }
  });

  test("bad arguments", () => {
    const rules = { groups: { topK: 1 }, experts: { topK: 2 } };
    const call =
      (ids = integers(2, 2), dWeights = floats(2, 2), logits = floats(2, 6)) =>
      () =>
        hierarchicalGatingBackward(floats(2, 3), logits, { ids }, dWeights, rules);
    expectError(call(integers(2, 3)), "SHAPE_MISMATCH", /^routing\.ids: expected shape \[2, 2\], got \[2, 3\]/);
    expectError(call(integers(2, 2), floats(2, 1)), "SHAPE_MISMATCH", /^dWeights: expected shape \[2, 2\]/);
    expectError(
      call(integers(2, 2), floats(2, 2), floats(2, 7)),
      "SHAPE_MISMATCH",
      /^logits: expected a number of exp/,
    );
    const routing = { ids: integers(2, 2), weights: floats(2, 2) };
    const limit =
      (kept: object, options = {}) =>
      () =>
        limitCapacityBackward(routing, kept as typeof routing, floats(2, 2), options);
    expectError(limit({}), "INVALID_ARGUMENT", /^kept\.ids: expected a Tensor/);
    expectError(
      limit(routing, { renormalize: { by: "all" } }),
      "INVALID_ARGUMENT",
      /^renormalize\.by: expected one of/,
    );
    const choose = () => expertChoiceBackward(floats(2, 3), { ids: integers(2, 2) }, floats(2, 3));
    expectError(choose, "SHAPE_MISMATCH", /^routing\.ids: expected shape \[2, 3\]/);
  });
});
