/** A peer that cannot run or computes something else, as opposed to a bug in this program. */
export class PeerError extends Error {
  override readonly name = "PeerError";
}

/** One implementation of a layer, with all inputs of the problem loaded. */
export interface Contender {
  readonly name: string;
  /** The exact version, such as `torch 2.6.0`. */
  readonly version: string;
  /** The outputs [T, H], or those of training, for all inputs of T tokens, concatenated. */
  outputs(tokens: number): Promise<Float32Array>;
  /** Runs all inputs of T tokens, repeatedly for at least `seconds`. Returns the seconds of every call. */
  time(tokens: number, seconds: number): Promise<number[]>;
  /** Bytes that a forward of T tokens keeps for backward, besides x and the weights; only asked for in training. */
  kept?(tokens: number): Promise<number>;
}

/** Goes on with rounds of calls for at least this many seconds. */
export async function repeatFor(seconds: number, round: () => Promise<unknown>): Promise<void> {
  const begin = performance.now();
  do await round();
  while (performance.now() - begin < seconds * 1e3);
}

/** One array of all values. */
export function concatenate(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((offset, part) => {
    all.set(part, offset);
    return offset + part.length;
  }, 0);
  return all;
}
