import type { Tensor } from "moe-kernels";

/** The queries, keys and values of tokens, and what is made of what the queries see. */
export interface Heads extends Disposable {
  /** @param x [T, H]. @param positions [T] */
  read(x: Tensor<"f32">, positions: readonly number[]): Promise<HeadRows>;
  /** @param seen [T, heads · value size]. @returns the rows of the output projection [T, K]. */
  merge(seen: Float32Array, tokens: number): Promise<Float32Array>;
}

export interface HeadRows {
  /** Turned, [T, heads · size]. */
  readonly queries: Float32Array;
  /** Turned, [T, key heads · size]. */
  readonly keys: Float32Array;
  /** [T, key heads · value size] */
  readonly values: Float32Array;
}

/** Those of some tokens, of `total`. */
export function rowsOf(rows: HeadRows, first: number, tokens: number, total: number): HeadRows {
  const part = (all: Float32Array) => {
    const width = all.length / total;
    return all.subarray(first * width, (first + tokens) * width);
  };
  return { queries: part(rows.queries), keys: part(rows.keys), values: part(rows.values) };
}

/** [first, second, ...] as [second, first, ...]. */
export function swapped(values: Float32Array, first: number, second: number): Float32Array {
  const width = values.length / (first * second);
  const result = new Float32Array(values.length);
  for (let i = 0; i < first; i++) {
    for (let j = 0; j < second; j++) {
      const from = (i * second + j) * width;
      result.set(values.subarray(from, from + width), (j * first + i) * width);
    }
  }
  return result;
}
