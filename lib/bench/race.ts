import type { Device } from "../core/device.js";
import type { Subject } from "../testing/subject/subject.js";
import type { BenchCase } from "./bench_case.js";
import { type Prepared, prepareContenders } from "./contenders/prepare.js";
import { afterPause, type CallTimes, inTurns, ratios, summarize, timeCalls } from "./measure.js";
import type { BenchResult, ContenderResult } from "./report.js";

/** Before the ceilings are known, and what the case took turns with. */
export type MeasuredCase = Omit<BenchResult, "floor" | "ofCeiling" | "apart">;

/** How long, and how often. */
interface RaceOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly calls: number;
  readonly contenders: readonly Subject[];
}

type Rounds = readonly (readonly CallTimes[])[];

/**
 * Times the same case in several dtypes and formats, and the contenders of each, which all take turns.
 * @returns a result for each.
 */
export async function race(
  device: Device,
  cases: readonly BenchCase[],
  { seconds, rounds, calls, contenders }: RaceOptions,
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
  const turns = [...ourTurns, ...theirTurns].map((turn) => {
    const one = () => turn(seconds / rounds);
    return theirTurns.length > 0 ? afterPause(one) : one;
  });
  const times: readonly Rounds[] = await inTurns<CallTimes[]>(turns, rounds);
  const theirs = times.slice(cases.length)[Symbol.iterator]();
  return cases.map((benchCase, index): MeasuredCase => {
    const own = times[index] as Rounds;
    return {
      ...resultOf(benchCase, own),
      timesFirst: index === 0 ? null : ratios(own.map(medianTotal), (times[0] as Rounds).map(medianTotal)),
      errors: prepared[index]?.ours ?? null,
      contenders: (prepared[index] as Prepared).contenders.map(({ name, of, check, timed }): ContenderResult => {
        const taken: Rounds | undefined = timed && theirs.next().value;
        const measured = timed?.end ? undefined : taken;
        return {
          ...{ name, of, ...check, ...timed?.end },
          total: measured ? summarize(measured.flat().map(({ total }) => total)) : null,
          timesOurs: measured ? ratios(measured.map(medianTotal), own.map(medianTotal)) : null,
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

const medianTotal = (round: readonly CallTimes[]): number => summarize(round.map(({ total }) => total)).median;
