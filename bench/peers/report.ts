import { mean } from "#lib/bench/bench_case.js";
import { boundOf } from "#lib/bench/ceilings.js";
import { type Measurement, ratios, summarize } from "#lib/bench/measure.js";
import type { Ceilings, ProductKernel } from "#lib/core/addon/native.js";
import { formatBytes, formatError, formatMicroseconds, significant } from "#lib/terminal/format.js";
import { renderTable } from "#lib/terminal/table.js";
import type { PeerFormat } from "./formats.js";
import type { Input } from "./problem.js";
import type { Rotation } from "./rotation.js";

/** One contender's times in a cell, in seconds, and derived numbers. */
export interface Result extends Measurement {
  readonly name: string;
  readonly gflops: number;
  /** Rate of reading the weights of experts that have tokens, in 10^9 bytes a second. */
  readonly weightGBs: number;
  /**
   * The least time that the ceilings allow by its own, the median over the rounds, each with its own read rate; for our
   * kernel. It does not count the router, which peers do not have.
   */
  readonly ofCeiling: number;
  /** Its time divided by ours, over the rounds. */
  readonly timesOurs: Measurement;
  /** Its time divided by that of the peer with the least median, over the rounds; missing without peers. */
  readonly timesBestPeer?: Measurement;
  /** Largest difference between its outputs and ours, relative to the largest output. */
  readonly difference: number;
  /** Bytes that a forward keeps for backward; missing without training. */
  readonly kept?: number;
}

/** All contenders for one number of tokens. */
export interface Cell {
  readonly tokens: number;
  /** The better peaks of those before and after, and the median of the rounds' read rates. */
  readonly ceilings: Ceilings;
  /** Floating-point operations of one call, averaged over the inputs. */
  readonly operations: number;
  /** Bytes of the weights of experts that have tokens, averaged over the inputs. */
  readonly weightBytes: number;
  /** Lower bound in seconds that the ceilings set for these operations, weights and tokens; the median over the rounds. */
  readonly floor: number;
  readonly results: readonly Result[];
}

/** All cells of one shape and format. */
export interface Group {
  readonly shape: string;
  readonly format: PeerFormat;
  /** Ours, which sets the ceiling of operations. */
  readonly kernel: ProductKernel;
  readonly rotation: Rotation;
  readonly cells: readonly Cell[];
}

/** A contender's medians by round, and the difference of its outputs. */
export interface Turns {
  readonly name: string;
  readonly medians: readonly number[];
  readonly difference: number;
  readonly kept?: number | undefined;
  readonly peer: boolean;
}

/**
 * @param turns all contenders, ours first.
 * @param ceilings measured before and after.
 * @param readGBs how fast memory read, by round like the medians of turns.
 */
export function cellOf(
  tokens: number,
  inputs: readonly Input[],
  turns: readonly Turns[],
  ceilings: Ceilings,
  readGBs: readonly number[],
  kernel: ProductKernel,
): Cell {
  const operations = mean(inputs.map(({ work }) => work.operations));
  const weightBytes = mean(inputs.map(({ work }) => work.weightBytes));
  const bytes = mean(inputs.map(({ work }) => work.weightBytes + work.activationBytes));
  const boundBeside = (medians: readonly number[]) =>
    boundOf({ operations, bytes }, ceilings, readGBs, kernel, medians);
  const [{ medians: ours }] = turns as readonly [Turns];
  const best = turns
    .filter(({ peer }) => peer)
    .toSorted((a, b) => summarize(a.medians).median - summarize(b.medians).median)[0];
  const results = turns.map(({ name, medians, difference, kept }) => {
    const times = summarize(medians);
    return {
      name,
      ...times,
      gflops: operations / times.median / 1e9,
      weightGBs: weightBytes / times.median / 1e9,
      ofCeiling: boundBeside(medians).ofCeiling,
      timesOurs: ratios(medians, ours),
      ...(best && { timesBestPeer: ratios(medians, best.medians) }),
      difference,
      ...(kept !== undefined && { kept }),
    };
  });
  const { floor, readGBs: read } = boundBeside(ours);
  return { tokens, ceilings: { ...ceilings, readGBs: read }, operations, weightBytes, floor, results };
}

export function cellTable(results: readonly Result[]): string {
  return renderTable(
    [
      { heading: "" },
      { heading: "median", align: "right" },
      { heading: "quartiles", align: "right" },
      { heading: "GFLOP/s", align: "right" },
      { heading: "GB/s", align: "right" },
      { heading: "of ceiling", align: "right" },
      { heading: "times ours", align: "right" },
      { heading: "quartiles", align: "right" },
      { heading: "times best peer", align: "right" },
      { heading: "difference", align: "right" },
      ...(results.some(({ kept }) => kept !== undefined) ? [{ heading: "kept", align: "right" as const }] : []),
    ],
    results.map(({ name, timesOurs, timesBestPeer, difference, kept, ofCeiling, gflops, weightGBs, ...times }) => [
      name,
      formatMicroseconds(times.median * 1e6),
      `${formatMicroseconds(times.lowerQuartile * 1e6)} .. ${formatMicroseconds(times.upperQuartile * 1e6)}`,
      significant(gflops),
      significant(weightGBs),
      `${(ofCeiling * 100).toFixed(0)}%`,
      timesOurs.median.toFixed(2),
      `${timesOurs.lowerQuartile.toFixed(2)} .. ${timesOurs.upperQuartile.toFixed(2)}`,
      timesBestPeer?.median.toFixed(2) ?? "",
      formatError(difference),
      ...(kept !== undefined ? [formatBytes(kept)] : []),
    ]),
  );
}
