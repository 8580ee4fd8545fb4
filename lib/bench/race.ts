import type { Device } from "../core/device/device.js";
import type { Subject } from "../testing/subject/subject.js";
import type { BenchCase } from "./bench_case.js";
import type { Bound } from "./ceilings.js";
import { type Prepared, prepareContenders } from "./contenders/prepare.js";
import { afterPause, type CallTimes, inTurns, ratios, summarize, type Turn, timeCalls } from "./measure.js";
import type { BenchResult, ContenderResult } from "./report.js";

/** The result of a case whose bound is not known yet, as the peaks are not, nor what it took turns with. */
export interface MeasuredCase extends Omit<BenchResult, keyof Bound | "apart"> {
  /** The median seconds of a call in each round, on the device where that tells. */
  readonly worked: readonly number[];
  /** How fast memory read in each round; null where it was not measured. */
  readonly readGBs: readonly number[] | null;
}

/** How long, and how often. */
interface RaceOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly calls: number;
  readonly contenders: readonly Subject[];
  /** Reads memory for about this many seconds, in a turn of its own; null for none. */
  readonly readRate: ((seconds: number) => Promise<number>) | null;
}

type Rounds = readonly (readonly CallTimes[])[];

/**
 * Times the same case in several dtypes and formats, and the contenders of each, which all take turns.
 * @returns a result for each.
 */
export async function race(
  device: Device,
  cases: readonly BenchCase[],
  { seconds, rounds, calls, contenders, readRate }: RaceOptions,
): Promise<MeasuredCase[]> {
  const prepared: Prepared[] = [];
  for (const benchCase of cases) {
    prepared.push(await prepareContenders(benchCase, contenders));
    await timeCalls(device, benchCase, 0, calls);
  }
  const theirTurns = prepared.flatMap((one) =>
    one.contenders.flatMap(({ timed }) => (timed ? (time: number) => timed.turn(time) : [])),
  );
  const ourTurns = cases.map((benchCase) => (time: number) => timeCalls(device, benchCase, time, calls));
  const readTurns = readRate === null ? [] : [readRate];
  const turns = [...ourTurns, ...theirTurns, ...readTurns].map((turn): Turn<CallTimes[] | number> => {
    const one = () => turn(seconds / rounds);
    return theirTurns.length > 0 ? afterPause<CallTimes[] | number>(one) : one;
  });
  const measured = await inTurns(turns, rounds);
  for (const one of prepared) await one.finish();
  const readGBs = readRate === null ? null : (measured.pop() as number[]);
  const times = measured as Rounds[];
  const theirs = times.slice(cases.length)[Symbol.iterator]();
  return cases.map((benchCase, index): MeasuredCase => {
    const own = times[index] as Rounds;
    return {
      ...resultOf(benchCase, own),
      timesFirst: index === 0 ? null : ratios(own.map(medianTotal), (times[0] as Rounds).map(medianTotal)),
      worked: own.map(medianWorked),
      readGBs,
      errors: prepared[index]?.ours ?? null,
      contenders: (prepared[index] as Prepared).contenders.map(({ contender, of, check, timed }): ContenderResult => {
        const taken: Rounds | undefined = timed && theirs.next().value;
        const ranked = timed?.end ? undefined : taken;
        return {
          ...{ name: contender.name, of, ...check, ...timed?.end },
          total: ranked ? summarize(ranked.flat().map(({ total }) => total)) : null,
          timesOurs: ranked ? ratios(ranked.map(medianTotal), own.map(medianTotal)) : null,
        };
      }),
    };
  });
}

function resultOf({ name, tokens, operations, bytes }: BenchCase, rounds: Rounds) {
  const all = rounds.flat();
  const total = summarize(all.map((times) => times.total));
  const onDevice = all.flatMap((times) => times.device ?? []);
  const device = onDevice.length > 0 ? summarize(onDevice) : null;
  const worked = (device ?? total).median;
  return {
    ...{ name, tokens, operations, bytes, total },
    call: summarize(all.map((times) => times.call)),
    device,
    gflops: operations / worked / 1e9,
    gbs: bytes / worked / 1e9,
  };
}

const medianWorked = (round: readonly CallTimes[]): number =>
  summarize(round.map(({ device, total }) => device ?? total)).median;
const medianTotal = (round: readonly CallTimes[]): number => summarize(round.map(({ total }) => total)).median;
