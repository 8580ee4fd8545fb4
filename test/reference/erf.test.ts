import { expect, test } from "vitest";
import { erfc } from "../../lib/reference/core/erf.js";

/** Computed with 30 digits by mpmath 1.3. */
const known: readonly (readonly [x: number, erfc: number])[] = [
  [-6, 2],
  [-3, 1.9999779095030015],
  [-2.5, 1.999593047982555],
  [-2, 1.9953222650189528],
  [-1, 1.8427007929497148],
  [-0.5, 1.5204998778130465],
  [-1e-8, 1.0000000112837917],
  [0, 1],
  [1e-8, 0.9999999887162083],
  [0.1, 0.887537083981715],
  [0.5, 0.4795001221869535],
  [1, 0.15729920705028513],
  [1.5, 0.033894853524689274],
  [1.9999, 0.004679802092970608],
  [2, 0.004677734981047266],
  [2.0001, 0.0046756686958033394],
  [3, 2.209049699858544e-5],
  [5, 1.537459794428035e-12],
  [10, 2.088487583762545e-45],
];

test.each(known)("erfc(%d)", (x, expected) => {
  expect(Math.abs(erfc(x) - expected)).toBeLessThanOrEqual(1e-15);
});

test.each(known.filter(([x]) => x >= 2))("erfc(%d) is accurate in the tail", (x, expected) => {
  expect(Math.abs(erfc(x) / expected - 1)).toBeLessThanOrEqual(1e-14);
});

test("limits and NaN", () => {
  expect(erfc(Number.POSITIVE_INFINITY)).toBe(0);
  expect(erfc(Number.NEGATIVE_INFINITY)).toBe(2);
  expect(erfc(Number.NaN)).toBeNaN();
});
