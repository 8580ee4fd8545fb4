import Benchmark from "benchmark";
import { repeatFor } from "./peers/contender.js";

/** How often something is done, as the package benchmark tells it. */
export interface Rate {
  readonly perSecond: number;
  /** The margin of error at 95 % confidence, in percent of the rate. */
  readonly margin: number;
  readonly samples: number;
}

/** Something to repeat. */
export interface Work {
  /** Resolves when it is done; then it is begun again. */
  run(): Promise<unknown>;
  /** How many times a run counts. */
  readonly times: number;
}

/** Samples that the time is divided into, after those in which benchmark finds out how many runs one takes. */
const samples = 50;

/** Measures the rates of all works, one after another, each for about `seconds`. Rejects with the first error of a run. */
export async function measureRates(works: readonly Work[], seconds: number): Promise<Rate[]> {
  // JavaScript is compiled while it runs, which would count as spread.
  for (const { run } of works) await repeatFor(seconds / 2, run);
  return await new Promise((resolve, reject) => {
    const suite = new Benchmark.Suite();
    for (const { run } of works) {
      suite.add({
        ...{ defer: true, maxTime: seconds, minTime: seconds / samples },
        fn: (deferred: Benchmark.Deferred) => void run().then(() => deferred.resolve(), reject),
      });
    }
    suite.on("complete", () => {
      const measured: Benchmark[] = suite.slice(0, works.length);
      resolve(
        measured.map(({ hz, stats }, index) => ({
          perSecond: hz * (works[index] as Work).times,
          margin: stats.rme,
          samples: stats.sample.length,
        })),
      );
    });
    suite.run({ async: true });
  });
}
