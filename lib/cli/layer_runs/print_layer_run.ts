import { styleText } from "node:util";
import type { CacheStatus } from "../../checkpoint/cache/weight_cache.js";
import type { StageTimes } from "../../core/layer/stages.js";
import { printable } from "../../core/text/printable.js";
import type { Work } from "../../layer/work.js";
import { heatMap } from "../../statistics/heat_map.js";
import type { RouterHistory } from "../../statistics/router_history.js";
import { barChart, largestOf } from "../../terminal/bar_chart.js";
import { formatBytes, formatError, formatMicroseconds, plural, significant } from "../../terminal/format.js";
import { columnsOf, type Output, usesColor } from "../../terminal/output.js";
import { passMark } from "../../terminal/pass_mark.js";
import { renderTable } from "../../terminal/table.js";
import type { Check } from "../../testing/run.js";
import type { Io } from "../io.js";
import { storageInWords } from "../layer_in_words.js";
import type { LayerRun } from "./layer_run.js";

const stageNames: Readonly<Record<keyof StageTimes, string>> = {
  router: "router",
  gating: "gating + top-k",
  sort: "sort",
  gateUp: "gate, up, activation",
  down: "down",
  combine: "combine",
};

/** Prints the results of one run of a layer. */
export function printLayerRun(run: LayerRun, io: Io): void {
  const { device, deviceReason, description, tokens, weightBytes, loadSeconds, cache } = run;
  const { microseconds, stages, work, checks, quantization } = run;
  const { stdout } = io;
  const heading = styleText("bold", `On ${device}, ${storageInWords(description)}`, { stream: stdout });
  stdout.write(
    `${heading}: ${formatBytes(weightBytes)} of weights ready in ${formatMicroseconds(loadSeconds * 1e6)}, ` +
      `${plural(tokens.count, "token")} in ${formatMicroseconds(microseconds)}\n`,
  );
  if (deviceReason !== "") stdout.write(`auto chose ${device}: ${printable(deviceReason)}\n`);
  if (cache !== null) stdout.write(`packed weights ${printable(cacheInWords(cache))}\n`);
  stdout.write("\n");
  const rows = (Object.keys(stageNames) as (keyof StageTimes)[]).map((stage) => [
    stageNames[stage],
    ...rates(stages[stage], work.stages[stage], microseconds),
  ]);
  stdout.write(
    renderTable(
      [
        { heading: "stage" },
        { heading: "time", align: "right" },
        { heading: "share", align: "right" },
        { heading: "GFLOP/s", align: "right" },
        { heading: "weights GB/s", align: "right" },
      ],
      [...rows, ["whole layer", ...rates(microseconds, work, microseconds)]],
    ),
  );
  stdout.write("\n");
  for (const check of checks) printCheck(check, stdout);
  if (checks.length > 0) stdout.write("\n");
  if (quantization !== null) {
    const { model, comparedWith, weightBytes: before, relativeError } = quantization;
    const of = model === null ? "" : ` of ${printable(model)}`;
    stdout.write(
      `In ${comparedWith} the weights${of} have ${formatBytes(before)}; relative to its output, that of this layer has an ` +
        `error of ${significant(relativeError)} (root mean square)\n\n`,
    );
  }
}

/** Prints a bar chart of how many tokens the router sends to each expert. */
export function printTokensPerExpert({ device, tokensPerExpert }: LayerRun, io: Io): void {
  const used = tokensPerExpert.filter((count) => count > 0).length;
  const mean = tokensPerExpert.reduce((sum, count) => sum + count, 0) / tokensPerExpert.length;
  io.stdout.write(
    `Tokens per expert on ${device}: ${used} of ${plural(tokensPerExpert.length, "expert")} used, ` +
      `mean ${significant(mean)}, largest ${largestOf(tokensPerExpert)}\n`,
  );
  io.stdout.write(`${barChart(tokensPerExpert, columnsOf(io.stdout))}\n`);
}

function cacheInWords({ state, path, reason }: CacheStatus): string {
  if (state === "mapped") return `mapped from ${path}`;
  if (state === "copied") return `read from ${path}`;
  return state === "written" ? `written to ${path}; not mapped: ${reason}` : `not kept: ${reason}`;
}

function rates(microseconds: number, { operations, weightBytes }: Work, whole: number): string[] {
  const perSecond = (amount: number): string =>
    amount > 0 && microseconds > 0 ? significant(amount / (microseconds * 1e3)) : "";
  const share = `${((microseconds / whole) * 100).toFixed(0)}%`;
  return [formatMicroseconds(microseconds), share, perSecond(operations), perSecond(weightBytes)];
}

function printCheck({ output, error, tolerance, passed }: Check, stdout: Output): void {
  const exact = passed ? "all as expected" : "not as expected";
  const text =
    tolerance === 0
      ? exact
      : `error ${formatError(error)} relative to the largest expected, tolerance ${formatError(tolerance)}`;
  stdout.write(`${passMark(passed, stdout)} ${output}: ${text}\n`);
}

/** Prints each expert's load over the recorded slices of tokens. */
export function printHeatMap({ device }: LayerRun, history: RouterHistory, { stdout }: Io): void {
  const slice = plural(history.windows[0]?.tokens ?? 0, "token");
  stdout.write(`Load of every expert on ${device} over the tokens, one call per ${slice}\n`);
  stdout.write(`${heatMap(history, { columns: Math.max(20, columnsOf(stdout)), color: usesColor(stdout) })}\n`);
}
