import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { scorings } from "../../lib/backend.js";
import { gating } from "../../lib/operators/gating.js";
import { kernelPaths, openForTests } from "../support/devices.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

describe.each(kernelPaths)("gating on $label", (path) => {
  const device = openForTests(path);

  function route(logits: number[][], options: Parameters<typeof gating>[1]) {
    using tensor = device().tensor(logits);
    const { ids, weights } = gating(tensor, options);
    const result = { ids: ids.toArraySync(), weights: weights.toArraySync() as number[][] };
    ids.dispose();
    weights.dispose();
    return result;
  }

  test("softmax over all experts, the best two", () => {
    const { ids, weights } = route([[0, Math.log(2), Math.log(5)]], { topK: 2 });
    expect(ids).toEqual([[2, 1]]);
    expect(weights[0]?.[0]).toBeCloseTo(5 / 8, 6);
    expect(weights[0]?.[1]).toBeCloseTo(2 / 8, 6);
  });

  test("softmax over the chosen, and normalization, divide by the sum of the chosen", () => {
    for (const options of [{ scoring: "softmax_selected" }, { normalize: true }] as const) {
      const { weights } = route([[0, Math.log(2), Math.log(5)]], { topK: 2, ...options });
      expect(weights[0]?.[0]).toBeCloseTo(5 / 7, 6);
      expect(weights[0]?.[1]).toBeCloseTo(2 / 7, 6);
    }
  });

  test("the scale comes after normalization", () => {
    const { weights } = route([[0, 0, 0]], { topK: 2, normalize: true, scale: 2.5 });
    expect(weights).toEqual([[1.25, 1.25]]);
  });

  test("ties go to the lower expert id", () => {
    expect(route([[1, 3, 3, 1, 3]], { topK: 5 }).ids).toEqual([[1, 2, 4, 0, 3]]);
    expect(route([[-0, 0, -0]], { topK: 3 }).ids).toEqual([[0, 1, 2]]);
  });

  test.each(scorings)("NaN ranks below -Infinity and has no part in %s", (scoring) => {
    const { ids, weights } = route([[nan, -infinity, 0, nan]], { topK: 4, scoring });
    expect(ids).toEqual([[2, 1, 0, 3]]);
    expect(weights).toEqual([[1, 0, 0, 0]]);
  });

  test.each(scorings)("+Infinity takes all the weight in equal shares under %s", (scoring) => {
    const { ids, weights } = route([[5, infinity, nan, infinity]], { topK: 3, scoring });
    expect(ids).toEqual([[1, 3, 0]]);
    expect(weights).toEqual([[0.5, 0.5, 0]]);
  });

  test.each(scorings)("a row without any finite logit gets distinct ids, weights 0, and is counted (%s)", (scoring) => {
    const before = device().warnings.nonFiniteLogitRows;
    const rows = [
      [nan, nan, nan],
      [-infinity, -infinity, -infinity],
      [nan, infinity, -infinity],
      [1, nan, nan],
    ];
    const { ids, weights } = route(rows, { topK: 2, scoring, normalize: true });
    expect(ids).toEqual([
      [0, 1],
      [0, 1],
      [1, 2],
      [0, 1],
    ]);
    expect(weights).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
      [1, 0],
    ]);
    expect(device().warnings.nonFiniteLogitRows - before).toBe(3);
  });

  test("any row: k distinct ids in descending order, weights that fit", () => {
    const logit = fc.oneof(
      { weight: 8, arbitrary: fc.double({ min: -50, max: 50, noNaN: true }) },
      { weight: 1, arbitrary: fc.constantFrom(nan, infinity, -infinity, 0) },
    );
    const problem = fc.integer({ min: 1, max: 70 }).chain((experts) =>
      fc.record({
        topK: fc.integer({ min: 1, max: experts }),
        rows: fc.array(fc.array(logit, { minLength: experts, maxLength: experts }), { maxLength: 5 }),
        scoring: fc.constantFrom(...scorings),
        normalize: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(problem, ({ topK, rows, scoring, normalize }) => {
        const experts = rows[0]?.length ?? 1;
        using logits = device().tensor(Float32Array.from(rows.flat()), [rows.length, rows.length ? experts : topK]);
        const routing = gating(logits, { topK, scoring, normalize });
        const ids = routing.ids.toArraySync() as number[][];
        const weights = routing.weights.toArraySync() as number[][];
        routing.ids.dispose();
        routing.weights.dispose();
        rows.forEach((row, token) => {
          const chosen = ids[token] as number[];
          expect(new Set(chosen).size).toBe(topK);
          const keys = chosen
            .map((id) => Math.fround(row[id] as number))
            .map((key) => (Number.isNaN(key) ? null : key));
          for (let slot = 1; slot < topK; slot++) {
            const [better, worse] = [keys[slot - 1], keys[slot]];
            if (worse !== null) expect(better).toBeGreaterThanOrEqual(worse as number);
          }
          const sum = (weights[token] as number[]).reduce((a, b) => a + b);
          if (!row.some(Number.isFinite)) expect(sum).toBe(0);
          else if (normalize || scoring === "softmax_selected" || topK === experts) expect(sum).toBeCloseTo(1, 5);
          else expect(sum).toBeLessThanOrEqual(1 + 1e-5);
        });
      }),
    );
  });
});
