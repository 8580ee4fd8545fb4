import { MoeError } from "../errors.js";
import { type Shape, shapeSize, shapeText } from "./shape.js";

/** Numbers nested as deep as a tensor has dimensions; a plain number for a scalar. */
export type NestedArray = number | NestedArray[];

/** A {@link NestedArray} that is only read. */
export type NestedSource = number | readonly NestedSource[];

/** Values and arrays of the largest nested arrays that V8 has memory for. A proxy can say that it has more. */
const limits = { values: 2 ** 26, arrays: 2 ** 24 };

/** How many arrays a tensor nests to, which for an empty one may be more than its memory could ever hold. */
export function nestedArrays(shape: Shape): number {
  return shape.reduce((arrays, _, level) => arrays + shapeSize(shape.slice(0, level)), 0);
}

/** INVALID_ARGUMENT, with what to do `instead`, if nested arrays of this shape are too large. */
export function checkNests(name: string, shape: Shape, instead: string): void {
  if (shapeSize(shape) <= limits.values && nestedArrays(shape) <= limits.arrays) return;
  const most = `at most ${limits.values} values in ${limits.arrays} arrays`;
  throw new MoeError("INVALID_ARGUMENT", `${name}: expected ${most}, got ${shapeText(shape)}; ${instead}`);
}

/** Values in order as nested arrays of this shape. */
export function nest(values: ArrayLike<number>, shape: Shape, level = 0, offset = 0): NestedArray {
  if (level === shape.length) return values[offset] as number;
  const stride = shapeSize(shape.slice(level + 1));
  return Array.from({ length: shape[level] as number }, (_, index) =>
    nest(values, shape, level + 1, offset + index * stride),
  );
}
