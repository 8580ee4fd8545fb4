/** A peer that cannot run or computes something else, as against a mistake of this program. */
export class PeerError extends Error {
  override readonly name = "PeerError";
}

/** One implementation of a layer, with every input of the problem at hand. */
export interface Contender {
  readonly name: string;
  /** What it is exactly, such as `torch 2.6.0`. */
  readonly version: string;
  /** The outputs [T, H] for all inputs of T tokens, one behind the other. */
  outputs(tokens: number): Promise<Float32Array>;
  /** Goes through these inputs, and again for at least `seconds`. Gives the seconds of every call. */
  time(tokens: number, seconds: number): Promise<number[]>;
}
