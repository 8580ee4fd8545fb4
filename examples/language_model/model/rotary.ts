import { RotaryPositions, rotaryFrequencies } from "../../common/rotary.js";
import type { Rotary, Yarn } from "../config/config.js";

/** The rotary positions of a model with heads of this size. */
export function rotaryPositions({ theta, neighbours, yarn }: Rotary, size: number): RotaryPositions {
  const frequencies = rotaryFrequencies(size, theta);
  if (yarn === undefined) return new RotaryPositions(frequencies, 1, neighbours);
  const scale = 0.1 * Math.log(yarn.factor) + 1;
  return new RotaryPositions(stretched(frequencies, theta, yarn), scale, neighbours);
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
