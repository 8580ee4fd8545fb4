/** Radians that RoPE (arXiv 2104.09864) turns each pair of a head's elements from one position to the next. */
export function rotaryFrequencies(size: number, theta: number): Float64Array {
  return Float64Array.from({ length: size / 2 }, (_, pair) => theta ** ((-2 * pair) / size));
}

/** Turns queries and keys by their positions. */
export class RotaryPositions {
  readonly #frequencies: Float64Array;
  readonly #scale: number;
  readonly #neighbours: boolean;

  /**
   * @param scale by which turned heads are multiplied.
   * @param neighbours whether neighbouring elements of a head are a pair, instead of elements of its halves.
   */
  constructor(frequencies: Float64Array, scale = 1, neighbours = false) {
    this.#frequencies = frequencies;
    this.#scale = scale;
    this.#neighbours = neighbours;
  }

  /**
   * Turns the heads of tokens in place.
   *
   * @param rows [T, heads · size].
   * @param positions [T]
   * @param heads the size of a head, and where in it the elements begin that are turned; default all of it.
   */
  turn(rows: Float32Array, positions: readonly number[], heads?: { size: number; begin: number }): void {
    const half = this.#frequencies.length;
    const { size, begin } = heads ?? { size: 2 * half, begin: 0 };
    const width = rows.length / positions.length;
    const [step, apart] = this.#neighbours ? [2, 1] : [1, half];
    for (const [token, position] of positions.entries()) {
      for (let pair = 0; pair < half; pair++) {
        const angle = position * this.#frequencies[pair];
        const [cosine, sine] = [Math.cos(angle) * this.#scale, Math.sin(angle) * this.#scale];
        for (let at = token * width + begin + pair * step; at < (token + 1) * width; at += size) {
          const [a, b] = [rows[at], rows[at + apart]];
          rows[at] = cosine * a - sine * b;
          rows[at + apart] = sine * a + cosine * b;
        }
      }
    }
  }
}
