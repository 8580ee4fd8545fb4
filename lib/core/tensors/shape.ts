import { describe, invalidArgument, MoeError, unexpected } from "../errors.js";
import { attempt, isArray } from "../input/foreign.js";

/** A tensor's sizes, outermost first; row-major and contiguous. */
export type Shape = readonly number[];

/** Largest number of dimensions of a tensor. */
export const maximumRank = 4;

export function shapeSize(shape: Shape): number {
  let size = 1;
  for (const dimension of shape) size *= dimension;
  return size;
}

export function shapeText(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dimension, index) => dimension === b[index]);
}

/**
 * A copy of a shape that a user passes, each size read once.
 * @throws INVALID_ARGUMENT unless `value` is a list of at most four non-negative integers.
 */
export function readShape(parameter: string, value: unknown): Shape {
  const expected = `at most ${maximumRank} integers >= 0`;
  if (!isArray(value)) throw invalidArgument(parameter, expected, value);
  const rank = attempt(parameter, () => value.length);
  if (!isSize(rank) || rank > maximumRank) throw invalidArgument(parameter, expected, value);
  const sizes = attempt(parameter, () => Array.from({ length: rank }, (_, index) => value[index]));
  if (!sizes.every(isSize)) throw unexpected(parameter, expected, `[${sizes.map(describe).join(", ")}]`);
  // Without its sizes of 0, so that no product of some of an empty tensor's sizes overflows either.
  if (!Number.isSafeInteger(shapeSize(sizes.map((size) => Math.max(size, 1))))) {
    throw unexpected(parameter, "fewer than 2^53 elements, sizes of 0 aside", shapeText(sizes));
  }
  return Object.freeze(sizes.map(Math.abs)); // -0 is 0
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * Throws SHAPE_MISMATCH unless `actual` fits `pattern`, whose entries are sizes, or names that stand for any size:
 * `checkSizes("x", x.shape, ["T", 64])` reports "x: expected shape [T, 64], got [3, 65]".
 */
export function checkSizes(
  parameter: string,
  actual: Shape,
  pattern: readonly (number | string)[],
  remedy: (actual: Shape) => string = () => "",
): void {
  if (fitsPattern(actual, pattern)) return;
  throw new MoeError(
    "SHAPE_MISMATCH",
    `${parameter}: expected shape [${pattern.join(", ")}], got ${shapeText(actual)}${remedy(actual)}`,
  );
}

function fitsPattern(actual: Shape, pattern: readonly (number | string)[]): boolean {
  if (actual.length !== pattern.length) return false;
  for (let index = 0; index < pattern.length; index++) {
    if (typeof pattern[index] === "number" && pattern[index] !== actual[index]) return false;
  }
  return true;
}
