import { formatError, formatMicroseconds, significant } from "../../terminal/format.js";
import type { Column } from "../../terminal/table.js";
import type { ComparedCase, Comparison } from "../compare.js";
import { failureOf } from "../contenders/check.js";
import type { Measurement } from "../measure.js";
import { type BenchGroup, type BenchResult, type ContenderResult, numbersText } from "../report.js";

/** A table before it is drawn, for terminals and pages. */
export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
}

const time = (seconds: number): string => formatMicroseconds(seconds * 1e6);
const quartiles = ({ lowerQuartile, upperQuartile }: Measurement): string =>
  `${time(lowerQuartile)} .. ${time(upperQuartile)}`;

/** Columns of texts, of numbers, and of texts again. */
function columns(before: readonly string[], numbers: readonly string[], after: readonly string[] = []): Column[] {
  const texts = (headings: readonly string[]) => headings.map((heading): Column => ({ heading }));
  return [...texts(before), ...numbers.map((heading): Column => ({ heading, align: "right" })), ...texts(after)];
}

/** Our times, and how close they come to the ceilings. */
export function resultTable(results: readonly BenchResult[]): Table {
  const right = ["T", "time", "quartiles", "on device", "call", "GFLOP/s", "GB/s", "of ceiling"];
  return {
    columns: columns(["operator"], right),
    rows: results.map(({ name, tokens, total, device, call, operations, gflops, gbs, ofCeiling }) => [
      name,
      String(tokens),
      time(total.median),
      quartiles(total),
      device === null ? "" : time(device.median),
      time(call.median),
      operations > 0 ? significant(gflops) : "",
      significant(gbs),
      ofCeiling === null ? "" : `${(ofCeiling * 100).toFixed(0)}%`,
    ]),
  };
}

/** Contenders beside us, fastest first; those that are not ranked come last and say why. Undefined without contenders. */
export function contenderTable({ results }: Pick<BenchGroup, "results">): Table | undefined {
  const compared = results.filter(({ contenders }) => contenders.length > 0);
  if (compared.length === 0) return undefined;
  const right = ["T", "time", "quartiles", "times ours", "quartiles", "error"];
  return {
    columns: columns(["operator", ""], right, [""]),
    rows: compared.flatMap(contenderRows),
  };
}

/** Dtypes and formats of one shape beside each other, case by case. Undefined of a single one. */
export function formatTable(groups: readonly BenchGroup[]): Table | undefined {
  const [first, ...others] = groups;
  if (first === undefined || others.length === 0) return undefined;
  const right = ["T", "time", "times the first", "quartiles"];
  return {
    columns: columns(["operator", ""], right, [""]),
    rows: first.results.flatMap(({ name }, index) =>
      groups.map((group, position) => {
        const { tokens, total, timesFirst, apart } = group.results[index] as BenchResult;
        return [
          position === 0 ? name : "",
          numbersText(group),
          String(tokens),
          time(total.median),
          timesFirst?.median.toFixed(2) ?? "",
          timesFirst ? ratioQuartiles(timesFirst) : "",
          apart === null ? "" : `timed apart: ${apart}`,
        ];
      }),
    ),
  };
}

const ratioQuartiles = ({ lowerQuartile, upperQuartile }: Measurement): string =>
  `${lowerQuartile.toFixed(2)} .. ${upperQuartile.toFixed(2)}`;

function contenderRows({ name, tokens, total, errors, contenders }: BenchResult): string[][] {
  const own = errors ?? [];
  const ours = {
    name: "moe-kernels",
    total,
    timesOurs: null,
    errors: own,
    of: "",
    failure: failureOf(own),
    leftOut: null,
  };
  const ranked = [ours, ...contenders].toSorted(
    (a, b) => (a.total?.median ?? Number.POSITIVE_INFINITY) - (b.total?.median ?? Number.POSITIVE_INFINITY),
  );
  return ranked.map((one, index) => {
    const { timesOurs } = one;
    const worst = one.errors.reduce((most, { error }) => Math.max(most, error), 0);
    return [
      index === 0 ? name : "",
      one.name,
      String(tokens),
      one.total ? time(one.total.median) : "",
      one.total ? quartiles(one.total) : "",
      timesOurs?.median.toFixed(2) ?? "",
      timesOurs ? ratioQuartiles(timesOurs) : "",
      one.errors.length > 0 ? formatError(worst) : "",
      remark(one, one === ours),
    ];
  });
}

function remark(
  { failure, leftOut, of }: Pick<ContenderResult, "failure" | "leftOut" | "of">,
  isOurs: boolean,
): string {
  if (failure !== null) return isOurs ? failure : `not ranked: ${failure}`;
  if (leftOut !== null) return `left out: ${leftOut}`;
  return of && `checked ${of}`;
}

/** Two reports, case by case. */
export function comparisonTable({ cases }: Comparison): Table {
  const right = ["T", "before", "after", "after / before"];
  return {
    columns: columns(["operator"], right, [""]),
    rows: cases.map((one) => [
      caseText(one),
      String(one.tokens),
      time(one.before.median),
      time(one.after.median),
      one.ratio.toFixed(2),
      one.verdict === "same" ? "" : one.verdict,
    ]),
  };
}

export function caseText({ name, contender }: Pick<ComparedCase, "name" | "contender">): string {
  return contender === "" ? name : `${name} by ${contender}`;
}
