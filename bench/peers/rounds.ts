import { setTimeout } from "node:timers/promises";
import { type Measurement, summarize } from "../measure.js";
import { type Contender, PeerError } from "./contender.js";
import { type PeerDType, type PeerFormat, tokenFormatOf, tokensOf } from "./problem.js";

/**
 * Largest accepted difference between a peer's outputs and ours, relative to the largest output. With int8 tokens a value
 * near the middle of two codes may go to either.
 */
const tolerances: Readonly<Record<PeerDType | "int8", number>> = { f32: 1e-4, bf16: 3e-2, int8: 3e-2 };

/** Gives the previous contender's threads, which spin for a while, time to go to sleep. */
const pauseMilliseconds = 20;

/**
 * The largest difference between outputs, relative to the largest output.
 * @throws PeerError if that exceeds the tolerance of the format or is NaN.
 */
export function checkOutputs(name: string, got: Float32Array, expected: Float32Array, format: PeerFormat): number {
  if (got.length !== expected.length) {
    throw new PeerError(`${name}: expected ${expected.length} outputs, got ${got.length}`);
  }
  let largest = 0;
  let difference = 0;
  for (let index = 0; index < expected.length; index++) {
    const value = expected[index] as number;
    largest = Math.max(largest, Math.abs(value));
    difference = Math.max(difference, Math.abs((got[index] as number) - value)); // NaN stays NaN
  }
  const share = difference / largest;
  const tolerance = tolerances[tokenFormatOf(format) === "int8" ? "int8" : tokensOf(format)];
  if (!(share <= tolerance)) {
    throw new PeerError(`${name}: expected outputs within ${tolerance} of the largest, got a difference of ${share}`);
  }
  return share;
}

/**
 * Times the contenders in turns, so that changes of the machine over time affect all of them: each for about `seconds`
 * per round, in order in one round and in reverse order in the next.
 * @returns for every contender, the median seconds of a call in each round.
 */
export async function timeInTurns(
  contenders: readonly Contender[],
  tokens: number,
  rounds: number,
  seconds: number,
  onTurn: (turnsDone: number) => void = () => {},
): Promise<number[][]> {
  const medians = contenders.map((): number[] => []);
  const order = contenders.map((contender, index) => ({ contender, own: medians[index] as number[] }));
  for (let round = 0; round < rounds; round++) {
    for (const [turn, { contender, own }] of (round % 2 === 0 ? order : order.toReversed()).entries()) {
      await setTimeout(pauseMilliseconds);
      own.push(summarize(await contender.time(tokens, seconds)).median);
      onTurn(round * contenders.length + turn + 1);
    }
  }
  return medians;
}

/** The ratio theirs / ours, over the rounds. */
export function ratios(theirs: readonly number[], ours: readonly number[]): Measurement {
  return summarize(theirs.map((seconds, round) => seconds / (ours[round] as number)));
}
