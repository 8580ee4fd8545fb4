import { arraysIn, mapArrays } from "../../testing/subject/arrays.js";

/** Values of one form, stacked: every array gets `count` as its first size. Arrays are zeros until they are {@link place}d. */
export function emptyStack<T>(one: T, count: number): T {
  return mapArrays(one, ({ data, shape, dtype }) => {
    const stacked = new (data.constructor as Uint8ArrayConstructor)(count * data.length);
    return { data: stacked, shape: [count, ...shape], dtype };
  });
}

/** Copies one of the values to its place in their stack. */
export function place<T>(stack: T, one: T, index: number): void {
  const sources = arraysIn(one);
  arraysIn(stack).forEach(([, { data }], position) => {
    const source = sources[position]?.[1].data as Uint8Array;
    (data as Uint8Array).set(source, index * source.length);
  });
}
