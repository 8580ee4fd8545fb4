import { setTimeout } from "node:timers/promises";
import { type Measurement, summarize } from "../measure.js";
import { type Contender, PeerError } from "./contender.js";
import type { PeerDType } from "./problem.js";

/** How far a peer's outputs may be from ours, as a share of the largest. */
const tolerances: Readonly<Record<PeerDType, number>> = { f32: 1e-4, bf16: 3e-2 };

/** Lets threads of the contender before fall asleep, which spin a while for more work. */
const pauseMilliseconds = 20;

/**
 * The largest difference between outputs, as a share of the largest output.
 * @throws where that is above what the dtype allows, or not a number.
 */
export function checkOutputs(name: string, got: Float32Array, expected: Float32Array, dtype: PeerDType): number {
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
  if (!(share <= tolerances[dtype])) {
    throw new PeerError(
      `${name}: expected outputs within ${tolerances[dtype]} of the largest, got a difference of ${share}`,
    );
  }
  return share;
}

/**
 * Times the contenders in turns, so that what changes on the machine over time meets all of them: in each round every
 * one for about `seconds`, in order and, the next round, in reverse.
 * @returns for every contender the median seconds of a call, by round.
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

/** How many times as long `theirs` take as `ours`, round by round. */
export function ratios(theirs: readonly number[], ours: readonly number[]): Measurement {
  return summarize(theirs.map((seconds, round) => seconds / (ours[round] as number)));
}
