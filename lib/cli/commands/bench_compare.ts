import { basename } from "node:path";
import { type Comparison, compareReports } from "../../bench/compare.js";
import type { BenchReport } from "../../bench/report.js";
import { comparisonChart } from "../../bench/reports/charts.js";
import { comparisonPage } from "../../bench/reports/page.js";
import { comparisonTable } from "../../bench/reports/tables.js";
import { chartOption, writePage } from "../../bench/reports/write.js";
import { MoeError } from "../../core/errors.js";
import { reasonOf } from "../../core/files/reason.js";
import { plural } from "../../terminal/format.js";
import { renderTable } from "../../terminal/table.js";
import { defineCommand } from "../command.js";
import { type Io, writeJson } from "../io.js";
import { readText } from "../read_text.js";

/** `bench compare`: two result files, case by case. */
export const benchCompare = defineCommand({
  synopsis: "BEFORE.json AFTER.json [options]",
  argument: "BEFORE.json AFTER.json",
  options: {
    chart: {
      type: "string",
      value: "FILE",
      help: "draw the ratios to FILE.html or FILE.svg; needs vega and vega-lite",
    },
    json: { type: "boolean", help: "print JSON" },
  },
  async run(values, io, before, after) {
    const chart = await chartOption(values.chart);
    const comparison = compareReports(await readReport(before), await readReport(after));
    const names = { before: basename(before), after: basename(after) };
    if (chart !== undefined) {
      await writePage(chart, comparisonChart(comparison, names), (svg) => comparisonPage(comparison, names, svg));
    }
    if (values.json) writeJson(io.stdout, comparison);
    else print(comparison, io);
    return 0;
  },
});

async function readReport(file: string): Promise<BenchReport> {
  try {
    return JSON.parse(await readText(file)) as BenchReport;
  } catch (cause) {
    const message = `expected a file that bench --json wrote, got ${file}: ${reasonOf(cause)}`;
    throw new MoeError("INVALID_ARGUMENT", message, { cause });
  }
}

function print({ cases, meanRatio, onlyBefore, onlyAfter, ...rest }: Comparison, { stdout }: Io): void {
  for (const group of new Set(cases.map((one) => one.group))) {
    const own = cases.filter((one) => one.group === group);
    const { columns, rows } = comparisonTable({ ...rest, meanRatio, onlyBefore, onlyAfter, cases: own });
    stdout.write(`${group}\n\n${renderTable(columns, rows)}\n`);
  }
  const count = (verdict: string): number => cases.filter((one) => one.verdict === verdict).length;
  stdout.write(
    `${plural(cases.length, "case")}: ${count("faster")} faster, ${count("slower")} slower, ${count("same")} within their ` +
      `spread; mean of after / before ${meanRatio.toFixed(3)}\n`,
  );
  if (onlyBefore.length > 0) stdout.write(`Only in the first: ${onlyBefore.join("; ")}\n`);
  if (onlyAfter.length > 0) stdout.write(`Only in the second: ${onlyAfter.join("; ")}\n`);
}
