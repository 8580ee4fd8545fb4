type NumberArray = Float32Array | Float64Array | Uint16Array;

/**
 * Fills `target` with the values of `source`, each converted; returns it. `from` of typed arrays with a function does the
 * same over an iterator and takes many times as long.
 */
export function convertInto<T extends NumberArray>(
  target: T,
  source: ArrayLike<number>,
  convert: (value: number) => number,
): T {
  for (let index = 0; index < target.length; index++) target[index] = convert(source[index] as number);
  return target;
}
