import { setTimeout } from "node:timers/promises";
import type { Device } from "../core/device/device.js";
import type { BenchCase } from "./bench_case.js";

/** Quartiles of measured values, in seconds or of ratios. */
export interface Measurement {
  /** The middle one. */
  readonly median: number;
  /** A quarter of the values are smaller. */
  readonly lowerQuartile: number;
  /** A quarter of the values are larger. */
  readonly upperQuartile: number;
  /** How many values there are. */
  readonly samples: number;
}

/** The quartiles of a sample. */
export function summarize(sample: readonly number[]): Measurement {
  const sorted = Float64Array.from(sample).sort();
  return {
    median: quantile(sorted, 0.5),
    lowerQuartile: quantile(sorted, 0.25),
    upperQuartile: quantile(sorted, 0.75),
    samples: sorted.length,
  };
}

/** A quantile of sorted values, with linear interpolation. */
function quantile(sorted: Float64Array, share: number): number {
  const position = (sorted.length - 1) * share;
  const below = sorted[Math.floor(position)] as number;
  const above = sorted[Math.ceil(position)] as number;
  return below + (above - below) * (position - Math.floor(position));
}

/** The ratio theirs / ours, over the rounds. */
export function ratios(theirs: readonly number[], ours: readonly number[]): Measurement {
  return summarize(theirs.map((value, round) => value / (ours[round] as number)));
}

/** One contender's turn: it works for about as long as it was told to, and returns what it measured. */
export type Turn<T> = () => Promise<T>;

/**
 * Takes turns, so that changes of the machine over time affect all contenders: one turn each per round, in order in one
 * round and in reverse order in the next.
 * @returns for every contender, what it returned in each round.
 */
export async function inTurns<T>(
  turns: readonly Turn<T>[],
  rounds: number,
  onTurn: (turnsDone: number) => void = () => {},
): Promise<T[][]> {
  const returned = turns.map((): T[] => []);
  const order = turns.map((turn, index) => ({ turn, own: returned[index] as T[] }));
  let done = 0;
  for (let round = 0; round < rounds; round++) {
    for (const { turn, own } of round % 2 === 0 ? order : order.toReversed()) {
      own.push(await turn());
      onTurn(++done);
    }
  }
  return returned;
}

/** How long a turn beside other software waits, as the threads of the last turn may spin for a while before they sleep. */
const pauseMilliseconds = 20;

/** A turn that waits until the threads of the last one sleep. */
export function afterPause<T>(turn: Turn<T>): Turn<T> {
  return async () => {
    await setTimeout(pauseMilliseconds);
    return await turn();
  };
}

/** The times of one call, in seconds. */
export interface CallTimes {
  /** From the call until its results are ready. */
  readonly total: number;
  /** Until the call returns. */
  readonly call: number;
  /** How long the device's stream was at work; null on a device that does the work within the call. */
  readonly device: number | null;
}

/** Makes calls for about `seconds`, at least one. With several `calls` between two waits, times are their means. */
export async function timeCalls(
  device: Device,
  { enqueue }: Pick<BenchCase, "enqueue">,
  seconds: number,
  calls: number,
): Promise<CallTimes[]> {
  const { backend } = device;
  const times: CallTimes[] = [];
  const begin = performance.now();
  do {
    const before = backend.busySeconds();
    const start = performance.now();
    for (let call = 0; call < calls; call++) enqueue();
    const returned = performance.now();
    await device.synchronize();
    const end = performance.now();
    const after = backend.busySeconds();
    times.push({
      total: (end - start) / 1e3 / calls,
      call: (returned - start) / 1e3 / calls,
      device: after === null || before === null ? null : (after - before) / calls,
    });
  } while (performance.now() - begin < seconds * 1e3);
  return times;
}
