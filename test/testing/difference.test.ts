import { expect, test } from "vitest";
import { differenceOf, differenceText, relativeError } from "../../lib/testing/difference.js";

test("the error is relative to the largest expected magnitude that is finite", () => {
  expect(relativeError([1, -8, 3], [1, -8, 2])).toBe(1 / 8);
  expect(relativeError([Infinity, 3, -8], [Infinity, 2, -8])).toBe(1 / 8);
  expect(relativeError([-Infinity, 1], [-Infinity, 0])).toBe(Infinity);
});

test.each([
  [5, Infinity],
  [Infinity, 5],
  [-Infinity, Infinity],
  [Number.NaN, Infinity],
  [Number.NaN, 5],
])("%d instead of %d is an infinite error", (value, expected) => {
  expect(relativeError([8, value], [8, expected])).toBe(Infinity);
  const judged = { shape: [2], tolerance: 1 };
  const worst = { index: [1], value, expected };
  expect(differenceOf([8, value], [8, expected], judged)).toMatchObject({ error: Infinity, wrong: 1, worst });
});

test("a difference says how many values are wrong, where they are, and what the worst is", () => {
  const shape = [2, 3, 4];
  const expected = Array.from({ length: 24 }, (_, index) => index);
  // The last column of the second matrix, but for its first row.
  const actual = expected.map((value) => (value === 19 ? 18 : value === 23 ? 0 : value === 3 ? 3.001 : value));
  const difference = differenceOf(actual, expected, { shape, tolerance: 1e-3 });
  expect(difference).toEqual({
    error: 1,
    wrong: 2,
    within: [
      [1, 1],
      [1, 2],
      [3, 3],
    ],
    worst: { index: [1, 2, 3], value: 0, expected: 23 },
  });
  expect(differenceText({ output: "y", shape, tolerance: 1e-3, ...difference })).toBe(
    "y: error 1.0e+0, tolerance 1.0e-3; 2 of 24 values wrong, in [1, 1-2, 3]; [1, 2, 3] is 0 instead of 23",
  );
});

test("errors are relative to the least magnitude if that is larger", () => {
  const judged = { shape: [1], tolerance: 0.1, leastMagnitude: 1 };
  expect(differenceOf([0.05], [0], judged)).toMatchObject({ error: 0.05, wrong: 0, within: [] });
});

test("equal values have no worst one", () => {
  expect(differenceOf([1, 0], [1, -0], { shape: [2], tolerance: 0 })).toEqual({
    error: 0,
    wrong: 0,
    within: [],
    worst: null,
  });
});
