import type { Distribution } from "../../core/operators/noise.js";
import { shapeSize } from "../../core/tensors/shape.js";
import type { Implementation } from "../core/implementation.js";

type Words = readonly [number, number, number, number];

/** The upper and lower half of the product of two 32-bit words. */
function multiply(a: number, b: number): [high: number, low: number] {
  const product = BigInt(a) * BigInt(b);
  return [Number(product >> 32n), Number(product & 0xffffffffn)];
}

/** Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
export function philox(counter: Words, key: readonly [number, number]): Words {
  let words = counter;
  let [key0, key1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, words[0]);
    const [high1, low1] = multiply(0xcd9e8d57, words[2]);
    words = [(high1 ^ words[1] ^ key0) >>> 0, low1, (high0 ^ words[3] ^ key1) >>> 0, low0];
    key0 = (key0 + 0x9e3779b9) >>> 0;
    key1 = (key1 + 0xbb67ae85) >>> 0;
  }
  return words;
}

/** The midpoint of one of 2^23 equal parts of (0, 1). */
function uniform(word: number): number {
  return ((word >>> 9) + 0.5) / 2 ** 23;
}

/** Two normal numbers from two uniform ones, by Box-Muller. */
function normalPair(a: number, b: number): [number, number] {
  const radius = Math.sqrt(-2 * Math.log(a));
  const angle = 2 * Math.PI * b;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

/** Numbers offset .. offset + count - 1 of the seed's sequence; see lib/operators/noise/random.ts. */
export function randomNumbers(seed: bigint, offset: number, count: number, distribution: Distribution): Float64Array {
  const key = [Number(seed & 0xffffffffn), Number(seed >> 32n)] as const;
  const values = new Float64Array(count);
  for (let counter = Math.floor(offset / 4); counter * 4 < offset + count; counter++) {
    const words = philox([counter % 2 ** 32, Math.floor(counter / 2 ** 32), 0, 0], key);
    const [a, b, c, d] = words.map(uniform) as [number, number, number, number];
    const numbers = distribution === "uniform" ? [a, b, c, d] : [...normalPair(a, b), ...normalPair(c, d)];
    numbers.forEach((number, lane) => {
      const index = counter * 4 + lane - offset;
      if (index >= 0 && index < count) values[index] = number;
    });
  }
  return values;
}

export const runRandom: Implementation<"random"> = ({ seed, offset, distribution, values }) => {
  values.store(randomNumbers(seed, offset, shapeSize(values.shape), distribution));
};

export const runJitter: Implementation<"jitter"> = ({ x, seed, epsilon, y }) => {
  const uniform = randomNumbers(seed, 0, shapeSize(x.shape), "uniform");
  y.store(x.values().map((value, index) => value * (1 + epsilon * (2 * (uniform[index] as number) - 1))));
};
