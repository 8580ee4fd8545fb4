import { invalidArgument, MoeError } from "./errors.js";

/** A tensor's sizes, outermost first; row-major and contiguous. */
export type Shape = readonly number[];

/** Largest number of dimensions of a tensor. */
const maximumRank = 4;

export function shapeSize(shape: Shape): number {
  return shape.reduce((size, dimension) => size * dimension, 1);
}

export function shapeText(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dimension, index) => dimension === b[index]);
}

/**
 * Throws INVALID_ARGUMENT unless `value` is a list of at most four non-negative integers, of fewer than 2^53 elements.
 */
export function checkShape(parameter: string, value: unknown): asserts value is Shape {
  const valid =
    Array.isArray(value) &&
    value.length <= maximumRank &&
    value.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0);
  if (!valid) {
    const shown = Array.isArray(value) ? `[${value.map(String).join(", ")}]` : value;
    throw invalidArgument(parameter, `at most ${maximumRank} integers >= 0`, shown);
  }
  if (!Number.isSafeInteger(shapeSize(value))) {
    throw invalidArgument(parameter, "fewer than 2^53 elements", shapeText(value));
  }
}

/**
 * Throws SHAPE_MISMATCH unless `actual` fits `pattern`, whose entries are sizes, or names that stand for any size:
 * `checkSizes("x", x.shape, ["T", 64])` reports "x: expected shape [T, 64], got [3, 65]".
 */
export function checkSizes(parameter: string, actual: Shape, pattern: readonly (number | string)[]): void {
  const fits =
    actual.length === pattern.length &&
    pattern.every((size, index) => typeof size === "string" || size === actual[index]);
  if (!fits) {
    throw new MoeError(
      "SHAPE_MISMATCH",
      `${parameter}: expected shape [${pattern.join(", ")}], got ${shapeText(actual)}`,
    );
  }
}
