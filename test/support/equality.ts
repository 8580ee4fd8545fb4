import { expect } from "vitest";

/**
 * Lets `toEqual` and its like compare arrays of numbers in one loop: for typed arrays of hundreds of thousands of values,
 * Vitest's own comparison takes seconds. What differs is left to Vitest, which tells where.
 */
expect.addEqualityTesters([(a: unknown, b: unknown) => (sameNumbers(a, b) ? true : undefined)]);

function sameNumbers(a: unknown, b: unknown): boolean {
  if (!isNumbers(a) || !isNumbers(b) || a.constructor !== b.constructor || a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) {
    const value = a[index];
    if (typeof value !== "number" || !Object.is(value, b[index])) return false;
  }
  return true;
}

function isNumbers(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}
