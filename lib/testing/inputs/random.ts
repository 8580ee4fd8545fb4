import { inspect } from "node:util";
import { ThreadBound } from "../../core/device/thread_bound.js";

/** Seeded random numbers: xoshiro128** (Blackman and Vigna, arXiv 1805.01407), the same on every machine. */
export class Random extends ThreadBound {
  readonly #state: Uint32Array;

  /** @param seed a number or a string, such as a case's name. */
  constructor(seed: number | string) {
    super();
    let hash = 0x811c9dc5; // FNV-1a
    for (const character of String(seed)) hash = Math.imul(hash ^ (character.codePointAt(0) as number), 0x01000193);
    // Four words from splitmix32: never all zero, and very different even for similar seeds.
    this.#state = Uint32Array.from({ length: 4 }, () => {
      hash = (hash + 0x9e3779b9) | 0;
      const mixed = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
      const again = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      return again ^ (again >>> 15);
    });
  }

  /**
   * Four words, from which another generator goes on as this one does.
   * @internal
   */
  get state(): Uint32Array {
    return this.#state.slice();
  }

  /** @internal */
  set state(words: Uint32Array) {
    this.#state.set(words);
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    const state = this.#state as unknown as [number, number, number, number];
    const result = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
    const shifted = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate(state[3], 11);
    return result / 2 ** 32;
  }

  /** Uniform in minimum .. maximum, both included. */
  integer(minimum: number, maximum: number): number {
    return minimum + Math.floor(this.uniform() * (maximum - minimum + 1));
  }

  /** Normal values of mean 0, by Box-Muller. */
  normals(count: number, deviation = 1): Float32Array {
    const values = new Float32Array(count);
    for (let index = 0; index < count; index += 2) {
      const radius = deviation * Math.sqrt(-2 * Math.log(1 - this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      values[index] = radius * Math.cos(angle);
      if (index + 1 < count) values[index + 1] = radius * Math.sin(angle);
    }
    return values;
  }

  /** `count` distinct integers from 0 .. limit-1, in random order. */
  sample(count: number, limit: number): number[] {
    const pool = Array.from({ length: limit }, (_, index) => index);
    for (let index = 0; index < count; index++) {
      const other = this.integer(index, limit - 1);
      [pool[index], pool[other]] = [pool[other] as number, pool[index] as number];
    }
    return pool.slice(0, count);
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return "Random";
  }
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
