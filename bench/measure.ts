import Benchmark from "benchmark";

/** Times of one call, in seconds, over all samples. */
export interface Measurement {
  readonly median: number;
  readonly lowerQuartile: number;
  readonly upperQuartile: number;
  readonly samples: number;
}

/**
 * Times `call`, which resolves when its work is done, for about `seconds`. A sample is the mean over enough successive
 * calls for the clock's resolution; there are at least five samples.
 */
export function measure(call: () => Promise<void>, seconds: number): Promise<Measurement> {
  return new Promise((resolve, reject) => {
    const fn = (deferred: Benchmark.Deferred): void => {
      call().then(
        () => deferred.resolve(),
        (error) => {
          reject(error);
          deferred.benchmark.abort();
          deferred.resolve();
        },
      );
    };
    const onComplete = ({ target }: { target: Benchmark }): void => resolve(summarize(target.stats.sample));
    new Benchmark({ defer: true, async: true, maxTime: seconds, minSamples: 5, fn, onComplete }).run();
  });
}

/** The quartiles of a sample. */
export function summarize(sample: readonly number[]): Measurement {
  const sorted = sample.toSorted((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    lowerQuartile: quantile(sorted, 0.25),
    upperQuartile: quantile(sorted, 0.75),
    samples: sorted.length,
  };
}

/** A quantile of sorted values, with linear interpolation. */
function quantile(sorted: readonly number[], share: number): number {
  const position = (sorted.length - 1) * share;
  const below = sorted[Math.floor(position)] as number;
  const above = sorted[Math.ceil(position)] as number;
  return below + (above - below) * (position - Math.floor(position));
}
