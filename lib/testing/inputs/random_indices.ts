import type { Random } from "./random.js";

/** Indices below `limit`, and -1, which stands for none. */
export function randomIndices(random: Random, count: number, limit: number): Int32Array {
  return Int32Array.from({ length: count }, () => random.integer(-1, limit - 1));
}

/** Tells which indices are among these. */
export function isIn(indices: Int32Array): (index: number) => boolean {
  const all = new Set(indices);
  return (index) => all.has(index);
}
