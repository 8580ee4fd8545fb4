import { RotaryPositions, rotaryFrequencies } from "../../common/rotary.js";
import type { Rotary, Yarn } from "../config/config.js";

/** The rotary positions of a model. */
export function rotaryPositions({ theta, size, neighbours, yarn }: Rotary): RotaryPositions {
  const frequencies = rotaryFrequencies(size, theta);
  if (yarn === undefined) return new RotaryPositions(frequencies, 1, neighbours);
  return new RotaryPositions(stretched(frequencies, theta, yarn), yarn.scale, neighbours);
}

/** Pairs that turn fast keep their frequencies, slow ones turn `factor` times as slowly, and between them is a ramp. */
function stretched(frequencies: Float64Array, theta: number, yarn: Yarn): Float64Array {
  const { factor, firstContext, fast, slow, truncate } = yarn;
  // The pair that makes this many rotations in the first context.
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
