import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { combine } from "../../../lib/operators/experts/combine.js";
import { permute, unpermute } from "../../../lib/operators/experts/permute.js";
import { sort } from "../../../lib/operators/routing/sort.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomRouting } from "../../../lib/testing/inputs/random_routing.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";

describe.each(kernelPaths)("permute, unpermute and combine on $label", (path) => {
  const device = openForTests(path);
  const x = [
    [1, 2],
    [3, 4],
    [5, 6],
  ];

  test("permute gathers rows, zeros for -1", () => {
    using rows = permute(device().tensor(x), device().tensor(Int32Array.of(2, -1, 0, 2)));
    expect(rows.toArraySync()).toEqual([
      [5, 6],
      [0, 0],
      [1, 2],
      [5, 6],
    ]);
  });

  test("unpermute gathers one row per slot, zeros for -1", () => {
    using slots = unpermute(device().tensor(x), device().tensor(Int32Array.of(2, -1, 0, 1), [2, 2]));
    expect(slots.toArraySync()).toEqual([
      [
        [5, 6],
        [0, 0],
      ],
      [
        [1, 2],
        [3, 4],
      ],
    ]);
  });

  test("an index out of range is reported with its place, and counts as -1", async () => {
    const rows = device().tensor(x);
    const rowOfSlot = device().tensor(Int32Array.of(2, 3), [1, 2]);
    const reported = (place: RegExp) => expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", place);
    using slots = unpermute(rows, rowOfSlot);
    await reported(/^unpermute: rowOfSlot\[0, 1\]: expected -1 or a row from 0 to 2, got 3$/);
    using y = combine(rows, rowOfSlot, device().tensor([[1, 1]]));
    await reported(/^combine: rowOfSlot\[0, 1\]: expected -1 or a row from 0 to 2, got 3$/);
    using permuted = permute(rows, rowOfSlot.reshape([2]));
    await reported(/^permute: tokenOfRow\[1\]: expected -1 or a row from 0 to 2, got 3$/);
    expect([slots, y, permuted].map((result) => [...result.dataSync()])).toEqual([
      [5, 6, 0, 0],
      [5, 6],
      [5, 6, 0, 0],
    ]);
  });

  test("combine adds up the weighted rows of a token; a token without rows gets 0", () => {
    const rowOfSlot = device().tensor(Int32Array.of(2, 0, -1, -1), [2, 2]);
    const weights = device().tensor([
      [0.5, 2],
      [9, 9],
    ]);
    using y = combine(device().tensor(x), rowOfSlot, weights);
    expect(y.toArraySync()).toEqual([
      [4.5, 7],
      [0, 0],
    ]);
  });

  test.each([8, 11])("combine leaves out slots without a row among any others, %i columns", (hidden) => {
    const rows = Float32Array.from({ length: 3 * hidden }, (_, i) => (i < hidden ? Number.NaN : i));
    using given = device().tensor(rows, [3, hidden]);
    for (let topK = 1; topK <= 9; topK++) {
      // Token t has rows 1 and 2 by turns, but none in slots whose bit t lacks.
      const tokens = Math.min(2 ** topK, 64);
      const slots = Array.from({ length: tokens * topK }, (_, i) => {
        const [token, slot] = [Math.floor(i / topK), i % topK];
        return (token >> slot) & 1 ? 1 + (slot % 2) : -1;
      });
      using rowOfSlot = device().tensor(Int32Array.from(slots), [tokens, topK]);
      using weights = device().tensor(
        Float32Array.from(slots, (_, i) => (i % topK) + 1),
        [tokens, topK],
      );
      using y = combine(given, rowOfSlot, weights);
      const expected = Array.from({ length: tokens }, (_, token) =>
        Array.from({ length: hidden }, (_, column) =>
          slots
            .slice(token * topK, (token + 1) * topK)
            .reduce(
              (sum, row, slot) => (row < 0 ? sum : sum + (slot + 1) * (rows[row * hidden + column] as number)),
              0,
            ),
        ),
      );
      expect(y.toArraySync()).toEqual(expected);
    }
  });

  test("combine of permuted tokens is every token times the sum of its weights", () => {
    const problem = fc.integer({ min: 1, max: 40 }).chain((experts) =>
      fc.record({
        tokens: fc.integer({ min: 0, max: 30 }),
        hidden: fc.integer({ min: 1, max: 80 }),
        experts: fc.constant(experts),
        topK: fc.integer({ min: 1, max: Math.min(experts, 9) }),
        spread: fc.constantFrom("even" as const, "uneven" as const, "some_dropped" as const, "one_expert" as const),
        seed: fc.integer(),
      }),
    );
    fc.assert(
      fc.property(problem, ({ tokens, hidden, experts, topK, spread, seed }) => {
        const random = new Random(seed);
        const values = random.normals(tokens * hidden);
        const routing = randomRouting(random, tokens, topK, experts, spread);
        using source = device().tensor(values, [tokens, hidden]);
        using ids = device().tensor(routing.ids, [tokens, topK]);
        using weights = device().tensor(routing.weights, [tokens, topK]);
        const { tokenOfRow, rowOfSlot } = sort(ids, { numExperts: experts });
        using rows = permute(source, tokenOfRow);
        using y = combine(rows, rowOfSlot, weights);
        const expected = values.map((value, index) => {
          const slots = Math.floor(index / hidden) * topK;
          let sum = 0;
          for (let slot = slots; slot < slots + topK; slot++) {
            if ((routing.ids[slot] as number) >= 0) sum += routing.weights[slot] as number;
          }
          return value * sum;
        });
        expect(relativeError(y.dataSync(), expected)).toBeLessThanOrEqual(1e-6);
      }),
    );
  });
});
