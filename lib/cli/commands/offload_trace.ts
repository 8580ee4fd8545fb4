import { basename } from "node:path";
import { offloadPolicies } from "../../core/device/backend.js";
import { drawChart, loadVega } from "../../statistics/draw_chart.js";
import { plural } from "../../terminal/format.js";
import { integerOption, listOption, UsageError } from "../../terminal/option_values.js";
import { outputOption } from "../../terminal/output_file.js";
import { renderTable } from "../../terminal/table.js";
import { defineCommand } from "../command.js";
import { writeJson } from "../io.js";
import { hitRateChart } from "../offload_trace/chart.js";
import { hitRate, replayTrace, type SlotsResult } from "../offload_trace/replay.js";
import { type RoutingTrace, readTrace, traceOfLayers } from "../offload_trace/trace_file.js";

const drawing = "offload-trace --chart";

/** `offload-trace`: what each policy of `offload` would have made of recorded routings, of several layers with one budget. */
export const offloadTrace = defineCommand({
  synopsis: "FILE... [options]",
  argument: "FILE...",
  options: {
    slots: {
      type: "string",
      multiple: true,
      value: "N",
      help: "numbers of slots, repeated or comma-separated (one to eight eighths of all experts)",
    },
    experts: {
      type: "string",
      value: "N",
      help: "number of experts of a layer (one more than the highest id in its FILE)",
    },
    chart: { type: "string", value: "FILE", help: "draw the hit rates as FILE.svg; needs vega and vega-lite" },
    json: { type: "boolean", help: "print JSON" },
  },
  async run(values, io, ...paths) {
    const experts = values.experts === undefined ? undefined : integerOption("experts", values.experts, 1, 2 ** 20);
    const chosen = listOption("slots", values.slots).map((text) => integerOption("slots", text, 1));
    const chart = await outputOption("chart", values.chart, [".svg"]);
    if (chart !== undefined) await loadVega(drawing);
    const traces: RoutingTrace[] = [];
    for (const path of paths) traces.push(await readTrace(path, experts));
    const trace = traceOfLayers(traces);
    const slotCounts = chosen.length > 0 ? chosen : eighths(trace.numExperts);
    const tooMany = slotCounts.find((slots) => slots > trace.numExperts);
    if (tooMany !== undefined) {
      throw new UsageError(`--slots: expected at most ${trace.numExperts}, the number of experts, got ${tooMany}`);
    }
    const results = replayTrace(trace, slotCounts);
    const name = paths.length > 1 ? `${paths.length} layers` : basename(paths[0] as string);
    const title = `${name}: ${plural(trace.ends.length, "call")} of ${plural(trace.numExperts, "expert")}`;
    await chart?.write(await drawChart(hitRateChart(results, title), drawing));
    if (values.json) writeJson(io.stdout, { experts: trace.numExperts, calls: trace.ends.length, results });
    else io.stdout.write(`${title}\n\n${hitRateTable(trace, results)}`);
    return 0;
  },
});

/** One to eight eighths of the experts. */
function eighths(experts: number): number[] {
  return [...new Set(Array.from({ length: 8 }, (_, index) => Math.ceil(((index + 1) * experts) / 8)))];
}

function hitRateTable({ numExperts }: RoutingTrace, results: readonly SlotsResult[]): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
  const names = ["slots", "of experts", ...offloadPolicies, "most used"];
  return renderTable(
    names.map((heading) => ({ heading, align: "right" as const })),
    results.map(({ slots, policies, mostUsed }) => [
      String(slots),
      percent(slots / numExperts),
      ...offloadPolicies.map((policy) => percent(hitRate(policies[policy]))),
      percent(mostUsed),
    ]),
  );
}
