import { afterPause, inTurns, summarize, type Turn } from "#lib/bench/measure.js";
import { relativeError } from "#lib/testing/difference.js";
import { type Contender, PeerError } from "./contender.js";
import { type PeerDType, type PeerFormat, partsOf } from "./formats.js";

/**
 * Largest accepted difference between a peer's outputs and ours, relative to the largest output. With int8 tokens a value
 * near the middle of two codes may go to either, and onnxruntime and llama.cpp have a scale for each group of columns
 * where we have one for a token.
 */
const tolerances: Readonly<Record<PeerDType | "int8", number>> = { f32: 1e-4, bf16: 3e-2, int8: 5e-2 };

/**
 * The largest difference between outputs, relative to the largest output.
 * @throws PeerError if that exceeds the tolerance of the format, or for NaN.
 */
export function checkOutputs(name: string, got: Float32Array, expected: Float32Array, format: PeerFormat): number {
  if (got.length !== expected.length) {
    throw new PeerError(`${name}: expected ${expected.length} outputs, got ${got.length}`);
  }
  const share = relativeError(got, expected);
  const { tokens, tokenFormat } = partsOf(format);
  const tolerance = tolerances[tokenFormat === "int8" ? "int8" : tokens];
  if (!(share <= tolerance)) {
    throw new PeerError(`${name}: expected outputs within ${tolerance} of the largest, got a difference of ${share}`);
  }
  return share;
}

/**
 * Checks the parts of outputs, each beside its own largest element.
 * @param sizes of the parts, which follow each other again and again.
 * @returns the largest difference.
 */
export function checkParts(
  name: string,
  got: Float32Array,
  expected: Float32Array,
  sizes: readonly number[],
  format: PeerFormat,
): number {
  if (got.length !== expected.length) return checkOutputs(name, got, expected, format);
  const differences: number[] = [];
  for (let begin = 0, part = 0; begin < expected.length; part++) {
    const end = begin + (sizes[part % sizes.length] as number);
    differences.push(checkOutputs(name, got.subarray(begin, end), expected.subarray(begin, end), format));
    begin = end;
  }
  return Math.max(...differences);
}

/** Turns' time that every contender runs before the first: JavaScript is compiled while it runs, ours and onnxruntime's. */
const warmUpTurns = 6;

/** What turns have measured, by round. */
interface TimedRounds {
  /** The median seconds of a call, for every contender. */
  readonly medians: readonly (readonly number[])[];
  /** How fast memory read. */
  readonly readGBs: readonly number[];
}

/**
 * Makes calls for about `seconds`, and at least one more than the first, which finds the caches as the turn before left
 * them.
 * @returns the seconds of each but the first.
 */
async function warmCalls(contender: Contender, tokens: number, seconds: number): Promise<number[]> {
  let times = await contender.time(tokens, seconds);
  while (times.length < 2) times = await contender.time(tokens, 2 * (times[0] as number));
  return times.slice(1);
}

/** Times the contenders in turns, each for about `seconds` per round. Reading memory has a turn too. */
export async function timeInTurns(
  contenders: readonly Contender[],
  tokens: number,
  rounds: number,
  seconds: number,
  readRate: Turn<number>,
  onTurn?: (turnsDone: number) => void,
): Promise<TimedRounds> {
  for (const contender of contenders) await contender.time(tokens, warmUpTurns * seconds);
  const turns = contenders.map(
    (contender) => async () => summarize(await warmCalls(contender, tokens, seconds)).median,
  );
  const [readGBs, ...medians] = await inTurns([readRate, ...turns].map(afterPause), rounds, onTurn);
  return { medians, readGBs: readGBs as number[] };
}
