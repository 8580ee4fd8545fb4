import type { Ceilings, ProductKernel } from "#lib/core/native.js";
import { formatMicroseconds, significant } from "#lib/terminal/format.js";
import { renderTable } from "#lib/terminal/table.js";
import type { BenchCase } from "./case.js";
import { floorSeconds } from "./ceilings.js";
import type { Measurement } from "./measure.js";

/** One case's times, in seconds, and derived numbers. */
export interface Result extends Measurement {
  readonly operator: string;
  readonly tokens: number;
  readonly operations: number;
  readonly bytes: number;
  readonly gflops: number;
  readonly gbs: number;
  /** Lower bound on the time set by this machine's ceilings. */
  readonly floor: number;
  /** floor / median: 1 is the ceiling; above 1, data came from a cache. */
  readonly ofCeiling: number;
}

export function resultOf(
  benchCase: BenchCase,
  measurement: Measurement,
  ceilings: Ceilings,
  kernel: ProductKernel,
): Result {
  const { operator, tokens, operations, bytes } = benchCase;
  const floor = floorSeconds(benchCase, ceilings, kernel);
  return {
    operator,
    tokens,
    ...measurement,
    operations,
    bytes,
    gflops: operations / measurement.median / 1e9,
    gbs: bytes / measurement.median / 1e9,
    floor,
    ofCeiling: floor / measurement.median,
  };
}

export function resultTable(results: readonly Result[]): string {
  return renderTable(
    [
      { heading: "operator" },
      { heading: "T", align: "right" },
      { heading: "median", align: "right" },
      { heading: "quartiles", align: "right" },
      { heading: "GFLOP/s", align: "right" },
      { heading: "GB/s", align: "right" },
      { heading: "of ceiling", align: "right" },
    ],
    results.map(({ operator, tokens, median, lowerQuartile, upperQuartile, operations, gflops, gbs, ofCeiling }) => [
      operator,
      String(tokens),
      formatMicroseconds(median * 1e6),
      `${formatMicroseconds(lowerQuartile * 1e6)} .. ${formatMicroseconds(upperQuartile * 1e6)}`,
      operations > 0 ? significant(gflops) : "",
      significant(gbs),
      `${(ofCeiling * 100).toFixed(0)}%`,
    ]),
  );
}
