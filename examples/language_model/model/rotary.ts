import type { Rotary, Yarn } from "../config/config.js";

/** Turns queries and keys by their positions. */
export class RotaryPositions {
  readonly #size: number;
  /** Radians that each pair turns from one position to the next. */
  readonly #frequencies: Float64Array;
  readonly #neighbours: boolean;
  /** By which turned heads are multiplied. */
  readonly #scale: number;

  constructor({ theta, neighbours, yarn }: Rotary, size: number) {
    this.#size = size;
    this.#neighbours = neighbours;
    const frequencies = Float64Array.from({ length: size / 2 }, (_, pair) => theta ** ((-2 * pair) / size));
    this.#frequencies = yarn === undefined ? frequencies : stretched(frequencies, theta, yarn);
    this.#scale = yarn === undefined ? 1 : 0.1 * Math.log(yarn.factor) + 1;
  }

  /** Turns the heads of consecutive tokens in place. @param rows [T, heads · size]. @param first the first token's position. */
  turn(rows: Float32Array, tokens: number, first: number): void {
    const [size, half, width] = [this.#size, this.#size / 2, rows.length / tokens];
    // Elements i and i + half of a head are a pair, or 2 i and 2 i + 1.
    const [step, apart] = this.#neighbours ? [2, 1] : [1, half];
    for (let token = 0; token < tokens; token++) {
      for (let pair = 0; pair < half; pair++) {
        const angle = (first + token) * this.#frequencies[pair];
        const [cosine, sine] = [Math.cos(angle) * this.#scale, Math.sin(angle) * this.#scale];
        for (let at = token * width + pair * step; at < (token + 1) * width; at += size) {
          const [a, b] = [rows[at], rows[at + apart]];
          rows[at] = cosine * a - sine * b;
          rows[at + apart] = sine * a + cosine * b;
        }
      }
    }
  }
}

/** Pairs that turn fast keep their frequencies, slow ones turn `factor` times as slowly, and between them is a ramp. */
function stretched(frequencies: Float64Array, theta: number, yarn: Yarn): Float64Array {
  const { factor, firstContext, fast, slow, truncate } = yarn;
  // The pair that makes so many rotations in the first context.
  const pairOf = (rotations: number) =>
    (frequencies.length * Math.log(firstContext / (rotations * 2 * Math.PI))) / Math.log(theta);
  const [fastest, slowest] = [pairOf(fast), pairOf(slow)];
  const begin = Math.max(0, truncate ? Math.floor(fastest) : fastest);
  const end = Math.min(2 * frequencies.length - 1, truncate ? Math.ceil(slowest) : slowest);
  return frequencies.map((frequency, pair) => {
    const share = Math.min(1, Math.max(0, (pair - begin) / (end === begin ? 0.001 : end - begin)));
    return frequency * (1 - share) + (frequency / factor) * share;
  });
}
