import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { gating } from "../../../lib/operators/routing/gating.js";
import { hierarchicalGating } from "../../../lib/operators/routing/hierarchical_gating.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

describe.each(kernelPaths)("hierarchical gating on $label", (path) => {
  const device = openForTests(path);

  test("each gate is plain gating, of the groups and of a chosen group's experts", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 0 }),
        async (numGroups, size, tokens, seed) => {
          const random = new Random(seed);
          const [k1, k2] = [random.integer(1, numGroups), random.integer(1, size)];
          const groupValues = random.normals(tokens * numGroups);
          const values = random.normals(tokens * numGroups * size);
          using groupLogits = device().tensor(groupValues, [tokens, numGroups]);
          using logits = device().tensor(values, [tokens, numGroups * size]);
          const rules = { groups: { topK: k1, normalize: true }, experts: { topK: k2, scoring: "sigmoid" } } as const;
          const { ids, weights } = hierarchicalGating(groupLogits, logits, rules);
          const first = gating(groupLogits, rules.groups);
          const groups = await first.ids.data();
          const groupWeights = await first.weights.data();
          const expectedIds: number[] = [];
          const expectedWeights: number[] = [];
          for (let slot = 0; slot < tokens * k1; slot++) {
            const group = groups[slot] as number;
            const begin = (Math.floor(slot / k1) * numGroups + group) * size;
            using part = device().tensor(values.slice(begin, begin + size), [1, size]);
            const second = gating(part, rules.experts);
            expectedIds.push(...Array.from(await second.ids.data(), (expert) => group * size + expert));
            const own = await second.weights.data();
            expectedWeights.push(...Array.from(own, (weight) => weight * (groupWeights[slot] as number)));
          }
          expect([...(await ids.data())]).toEqual(expectedIds);
          expect(relativeError(await weights.data(), expectedWeights)).toBeLessThanOrEqual(1e-6);
        },
      ),
      { numRuns: 15 },
    );
  });
});

describe("bad arguments of hierarchical gating", () => {
  const device = openForTests("cpu");
  const logits = (experts: number) => device().tensor(new Float32Array(3 * experts), [3, experts]);

  test("sizes that do not divide, and options of either gate", () => {
    const rules = { groups: { topK: 1 }, experts: { topK: 2 } };
    expectError(() => hierarchicalGating(logits(4), logits(10), rules), "SHAPE_MISMATCH", /multiple of the 4 groups/);
    expectError(
      () => hierarchicalGating(logits(4), logits(8), { ...rules, groups: { topK: 5 } }),
      "INVALID_ARGUMENT",
      /^groups\.topK: expected an integer from 1 to 4, got 5/,
    );
    expectError(
      () => hierarchicalGating(logits(4), logits(8), { ...rules, experts: { topK: 3 } }),
      "INVALID_ARGUMENT",
      /^experts\.topK: expected an integer from 1 to 2, got 3/,
    );
    expectError(
      () => hierarchicalGating(logits(4), device().tensor(new Float32Array(16), [2, 8]), rules),
      "SHAPE_MISMATCH",
      /logits/,
    );
  });
});
