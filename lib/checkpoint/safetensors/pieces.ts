import { setImmediate } from "node:timers/promises";

/**
 * Work that yields about once a millisecond, so that no file, however large, blocks the event loop. It may yield a promise,
 * such as that of a file's next bytes, and goes on when that is fulfilled.
 */
export type Pieces<T> = Generator<Promise<void> | undefined, T>;

/** How long the event loop is blocked at most. */
const pauseMilliseconds = 5;

/** Does work that yields no promises, without pauses. */
export function atOnce<T>(pieces: Pieces<T>): T {
  for (;;) {
    const { done, value } = pieces.next();
    if (done) return value;
  }
}

/** Does the work with pauses in which the event loop runs. Rejects with the signal's reason. */
export async function inPieces<T>(pieces: Pieces<T>, signal: AbortSignal | undefined): Promise<T> {
  for (let end = performance.now() + pauseMilliseconds; ; ) {
    const { done, value } = pieces.next();
    if (done) return value;
    if (value !== undefined) await value;
    if (performance.now() < end) continue;
    await setImmediate();
    signal?.throwIfAborted();
    end = performance.now() + pauseMilliseconds;
  }
}

/** Sorts an array in pieces. */
export function* sorted<T>(values: readonly T[], compare: (a: T, b: T) => number): Pieces<T[]> {
  const runs: T[][] = [];
  for (let begin = 0; begin < values.length; begin += pieceSize) {
    runs.push(values.slice(begin, begin + pieceSize).sort(compare));
    yield;
  }
  for (let next = 0; next + 1 < runs.length; next += 2) {
    runs.push(yield* merged(runs[next] as T[], runs[next + 1] as T[], compare));
  }
  return runs.at(-1) ?? [];
}

/** Short steps, of a microsecond or less, between two yields. */
export const pieceSize = 4096;

function* merged<T>(a: readonly T[], b: readonly T[], compare: (a: T, b: T) => number): Pieces<T[]> {
  const result: T[] = [];
  let [fromA, fromB] = [0, 0];
  while (fromA < a.length || fromB < b.length) {
    const takesA = fromB >= b.length || (fromA < a.length && compare(a[fromA] as T, b[fromB] as T) <= 0);
    result.push((takesA ? a[fromA++] : b[fromB++]) as T);
    if (result.length % pieceSize === 0) yield;
  }
  return result;
}
