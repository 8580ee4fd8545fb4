import { invalidArgument, MoeError } from "../core/errors.js";
import type { Measurement } from "./measure.js";
import { type BenchGroup, type BenchReport, groupText } from "./report.js";

/** One case that two reports have, of ours or of a contender. */
export interface ComparedCase {
  /** Shape, dtype and so on. */
  readonly group: string;
  /** `layer`, or the case of an operator. */
  readonly name: string;
  /** T */
  readonly tokens: number;
  /** Empty for our own times. */
  readonly contender: string;
  /** Seconds of a call until its results were there, in the first report. */
  readonly before: Measurement;
  /** Seconds of a call until its results were there, in the second report. */
  readonly after: Measurement;
  /** after / before, by the medians: less than 1 is faster. */
  readonly ratio: number;
  /** `same` unless the middle halves of the samples are apart. */
  readonly verdict: "faster" | "slower" | "same";
}

/** Two reports, compared. */
export interface Comparison {
  /** What both have. */
  readonly cases: readonly ComparedCase[];
  /** The geometric mean of the ratios. */
  readonly meanRatio: number;
  /** Cases that only the first report has. */
  readonly onlyBefore: readonly string[];
  /** Cases that only the second has. */
  readonly onlyAfter: readonly string[];
}

/**
 * Compares the times of two reports, case by case.
 * @throws INVALID_ARGUMENT for what is no report, or if the two have no case in common.
 */
export function compareReports(before: BenchReport, after: BenchReport): Comparison {
  const [old, now] = [timesOf(before, "before"), timesOf(after, "after")];
  const cases = [...old].flatMap(([key, { total, ...names }]): ComparedCase[] => {
    const other = now.get(key);
    if (other === undefined) return [];
    const ratio = other.total.median / total.median;
    return [{ ...names, before: total, after: other.total, ratio, verdict: verdictOf(total, other.total) }];
  });
  if (cases.length === 0) {
    throw invalidArgument(
      "after",
      `a report with cases of the first, such as ${[...old.keys()][0]}`,
      [...now.keys()][0],
    );
  }
  const logs = cases.map(({ ratio }) => Math.log(ratio));
  return {
    cases,
    meanRatio: Math.exp(logs.reduce((sum, value) => sum + value, 0) / logs.length),
    onlyBefore: [...old.keys()].filter((key) => !now.has(key)),
    onlyAfter: [...now.keys()].filter((key) => !old.has(key)),
  };
}

function verdictOf(before: Measurement, after: Measurement): ComparedCase["verdict"] {
  if (after.upperQuartile < before.lowerQuartile) return "faster";
  return after.lowerQuartile > before.upperQuartile ? "slower" : "same";
}

type Times = Pick<ComparedCase, "group" | "name" | "tokens" | "contender"> & { readonly total: Measurement };

/** All times of a report, by what identifies them. A report may come from a file that somebody has changed. */
function timesOf(report: BenchReport, parameter: string): ReadonlyMap<string, Times> {
  try {
    if (report.kind !== "moe-kernels bench") throw new Error(`its kind is ${JSON.stringify(report.kind)}`);
    return new Map(report.groups.flatMap(timesOfGroup).map((times) => [keyOf(times), times]));
  } catch (cause) {
    const expected = "expected a report of moe-kernels bench, as --json writes it";
    throw new MoeError("INVALID_ARGUMENT", `${parameter}: ${expected}: ${(cause as Error).message}`, { cause });
  }
}

function timesOfGroup(group: BenchGroup): Times[] {
  return group.results.flatMap(({ name, tokens, total, contenders }): Times[] => {
    const own = { group: groupText(group), name, tokens };
    const others = contenders.flatMap(({ name: contender, total: theirs }) =>
      theirs ? [{ ...own, contender, total: checked(theirs) }] : [],
    );
    return [{ ...own, contender: "", total: checked(total) }, ...others];
  });
}

function keyOf({ group, name, tokens, contender }: Times): string {
  return `${group}: ${name} T${tokens}${contender && ` by ${contender}`}`;
}

function checked(times: Measurement): Measurement {
  const { median, lowerQuartile, upperQuartile } = times;
  if ([median, lowerQuartile, upperQuartile].every((seconds) => seconds > 0 && Number.isFinite(seconds))) return times;
  throw new Error(`a time is ${JSON.stringify(times)}`);
}
