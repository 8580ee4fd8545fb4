import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import { groupScores, type Scoring, scorings, selectionKeys } from "../../../lib/core/layer/routing_rule.js";
import type { FloatDType } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { checkGating, type GatingRuleOptions, gatingRule } from "../../../lib/operators/routing/gating_options.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { kernelPaths, openForTests } from "../../support/devices.js";

interface Problem {
  rule: GatingRuleOptions;
  experts: number;
  dtype: FloatDType;
  rows: number[][];
  bias: number[] | undefined;
}

/** An eighth off a grid of halves, so that no logit is the negative of another: sums of their sigmoids would tie. */
const finite = fc.integer({ min: -9, max: 9 }).map((step) => step / 2 + 0.125);

/** Any rule that `experts` experts accept. */
function rules(groupCount: number, groupSize: number): fc.Arbitrary<GatingRuleOptions> {
  const experts = groupCount * groupSize;
  const candidates = fc.record(
    {
      topK: fc.oneof(fc.integer({ min: 1, max: Math.min(8, experts) }), fc.integer({ min: 1, max: experts })),
      scoring: fc.constantFrom(...scorings),
      selectionKey: fc.constantFrom(...selectionKeys),
      groups: fc.record(
        {
          count: fc.constant(groupCount),
          top: fc.integer({ min: 1, max: groupCount }),
          score: fc.constantFrom(...groupScores),
        },
        { requiredKeys: ["count", "top"] },
      ),
      normalize: fc.constantFrom(
        true,
        { by: "sum" } as const,
        { by: "sum_plus_epsilon", epsilon: 1e-20 } as const,
        { by: "sum_plus_epsilon", epsilon: 0.375 } as const,
        { by: "clamped_sum", epsilon: 0.75 } as const,
        { by: "lp", power: 1 } as const,
        { by: "lp", power: 3.5 } as const,
      ),
      scale: fc.constantFrom(2.5, -0.5, 0),
      jitter: fc.constantFrom(0, 0.0137, 0.3),
    },
    { requiredKeys: ["topK", "scoring"] },
  );
  return candidates.filter((rule) => {
    try {
      checkGating(gatingRule(rule, "options"), experts);
      return true;
    } catch {
      return false;
    }
  });
}

/** Special logits for which float32 does not tie unless float64 does. */
function specials({ scoring, groups, selectionKey }: GatingRuleOptions): number[] {
  const unbounded = selectionKey === "logit" || scoring === "none" || scoring === "softmax_selected";
  if (unbounded && groups !== undefined && groups.score !== "max") return [];
  return scoring === "none" ? [Number.NaN] : [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
}

function problemOf(rule: GatingRuleOptions, groupCount: number, groupSize: number): fc.Arbitrary<Problem> {
  const experts = groupCount * groupSize;
  const logit = fc.oneof(
    { weight: 12, arbitrary: finite },
    { weight: 1, arbitrary: fc.constantFrom(0.125, ...specials(rule)) },
  );
  const step = fc.integer({ min: -3, max: 3 }).map((count) => count * 0.375);
  // One bias per group: with sums of two keys, biases swapped within a group would make ties that rounding breaks.
  const bias = fc
    .array(step, { minLength: groupCount, maxLength: groupCount })
    .map((steps) => Array.from({ length: experts }, (_, expert) => steps[Math.floor(expert / groupSize)] as number));
  return fc.record({
    rule: fc.constant(rule),
    experts: fc.constant(experts),
    dtype: fc.constantFrom<FloatDType[]>("f32", "bf16", "f16"),
    rows: fc.array(fc.array(logit, { minLength: experts, maxLength: experts }), { minLength: 1, maxLength: 11 }),
    bias: rule.scoring === "sparsemixer" ? fc.constant(undefined) : fc.option(bias, { nil: undefined }),
  });
}

const problems = fc
  .tuple(fc.constantFrom(1, 2, 3, 4, 8, 40), fc.constantFrom(1, 2, 3, 5, 8, 17, 33))
  .chain(([count, size]) => rules(count, size).chain((rule) => problemOf(rule, count, size)));

function solve(device: Device, { rule, experts, rows, bias, dtype }: Problem, exact: boolean) {
  const float = exact ? ("f64" as "f32") : dtype;
  using logits = device.tensor(Float32Array.from(rows.flat()), [rows.length, experts], float);
  using selectionBias = bias === undefined ? undefined : device.tensor(Float32Array.from(bias), [experts], float);
  const before = device.warnings.nonFiniteLogitRows;
  const routing = gating(logits, selectionBias ? { ...rule, selectionBias } : rule);
  using ids = routing.ids;
  using weights = routing.weights;
  const values = [...weights.dataSync()];
  return { ids: ids.toArraySync(), weights: values, counted: device.warnings.nonFiniteLogitRows - before };
}

describe.each(kernelPaths)("gating by any rule on $label", (path) => {
  const device = openForTests(path);

  test("chooses the same experts as reference, with weights within 3e-6", () => {
    using reference = openDevice("reference");
    fc.assert(
      fc.property(problems, (problem) => {
        const expected = solve(reference, problem, true);
        const actual = solve(device(), problem, false);
        expect(actual.ids).toEqual(expected.ids);
        expect(relativeError(actual.weights, expected.weights)).toBeLessThan(3e-6);
        expect(actual.counted).toBe(expected.counted);
      }),
      { seed: 20, numRuns: 400 },
    );
  });
});

describe("the random rules", () => {
  test("cover every scoring", () => {
    const drawn = fc.sample(problems, { seed: 20, numRuns: 400 });
    for (const scoring of scorings)
      expect(drawn.filter(({ rule }) => rule.scoring === scoring).length).toBeGreaterThan(20);
    const grouped = (scoring: Scoring) =>
      drawn.some(({ rule }) => rule.scoring === scoring && rule.groups !== undefined);
    expect(scorings.filter(grouped)).toEqual(scorings.filter((scoring) => scoring !== "sparsemixer"));
  });
});
