import { type Shape, shapeSize } from "../core/tensors/shape.js";
import { formatError, plural } from "../terminal/format.js";

/** How an output differs from what is expected. */
export interface Difference {
  /**
   * Largest difference, relative to the largest expected magnitude that is finite; Infinity if a value is missing or NaN, or if only one of
   * the two is infinite.
   */
  readonly error: number;
  /** How many values differ by more than the tolerance. */
  readonly wrong: number;
  /** Where they are: the first and the last index in each dimension. Empty if none is wrong. */
  readonly within: readonly (readonly [first: number, last: number])[];
  /** The value with the largest difference; null if all are as expected. */
  readonly worst: WorstValue | null;
}

/** The value of an output with the largest difference. */
export interface WorstValue {
  /** Where it is. */
  readonly index: readonly number[];
  /** What it is. */
  readonly value: number;
  /** What it should be. */
  readonly expected: number;
}

/** What differences are judged by. */
export interface Judgement {
  /** The shape of the output. */
  readonly shape: Shape;
  /** The largest relative error that is right. */
  readonly tolerance: number;
  /** What errors are relative to if the largest expected magnitude is smaller; default 0. */
  readonly leastMagnitude?: number;
}

/** Compares the values of an output, as many as its shape has, with what is expected. */
export function differenceOf(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { shape, tolerance, leastMagnitude = 0 }: Judgement,
): Difference {
  const magnitude = largestMagnitude(expected, leastMagnitude);
  let wrong = 0;
  let worst = -1;
  let largest = 0;
  const within: [number, number][] = [];
  for (let position = 0; position < expected.length; position++) {
    const difference = distance(actual[position] as number, expected[position] as number);
    if (difference > largest) [largest, worst] = [difference, position];
    if (difference === 0 || difference / magnitude <= tolerance) continue;
    wrong++;
    indexOf(position, shape).forEach((index, dimension) => {
      const [first, last] = within[dimension] ?? [index, index];
      within[dimension] = [Math.min(first, index), Math.max(last, index)];
    });
  }
  return {
    error: largest === 0 ? 0 : largest / magnitude,
    wrong,
    within,
    worst:
      worst < 0
        ? null
        : { index: indexOf(worst, shape), value: actual[worst] as number, expected: expected[worst] as number },
  };
}

/**
 * The largest difference, relative to the largest expected magnitude that is finite, or to `leastMagnitude` if that is larger; Infinity
 * if a value is missing or NaN, or if only one of the two is infinite.
 */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>, leastMagnitude = 0): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  const judged = { shape: [expected.length], tolerance: Number.POSITIVE_INFINITY, leastMagnitude };
  return differenceOf(actual, expected, judged).error;
}

/** What an output is called that is compared with that of the first call. */
export const callText = (output: string, call: number): string => `${output} in call ${call}`;

/** The reason why it must be exact. */
export const sameAgain = "exact: every call gives the same values";

/** What is wrong with an output, in words. */
export function differenceText({
  output,
  shape,
  error,
  tolerance,
  wrong,
  within,
  worst,
}: Difference & Judgement & { readonly output: string }): string {
  const allowed = tolerance === 0 ? "none allowed" : `tolerance ${formatError(tolerance)}`;
  const text = `${output}: error ${formatError(error)}, ${allowed}`;
  if (worst === null) return text;
  const ranges = within.map(([first, last]) => (first === last ? first : `${first}-${last}`));
  const place = wrong > 1 ? `, in [${ranges.join(", ")}]` : "";
  const most = `[${worst.index.join(", ")}] is ${numberText(worst.value)} instead of ${numberText(worst.expected)}`;
  return `${text}; ${wrong} of ${plural(shapeSize(shape), "value")} wrong${place}; ${most}`;
}

/** Digits enough for float32. */
const numberText = (value: number): string => String(Number(value.toPrecision(9)));

function largestMagnitude(expected: ArrayLike<number>, least: number): number {
  let largest = least;
  for (let index = 0; index < expected.length; index++) {
    const magnitude = Math.abs(expected[index] as number);
    if (Number.isFinite(magnitude)) largest = Math.max(largest, magnitude);
  }
  return largest;
}

function distance(value: number, expected: number): number {
  if (value === expected) return 0;
  const difference = Math.abs(value - expected);
  return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
}

/** The index of a value in each dimension. */
export function indexOf(position: number, shape: Shape): number[] {
  const index: number[] = [];
  let rest = position;
  for (const size of shape.toReversed()) {
    index.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return index;
}
