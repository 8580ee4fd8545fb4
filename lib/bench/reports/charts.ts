import type { Comparison } from "../compare.js";
import { type BenchGroup, type BenchReport, groupsInTurns, groupsText, groupText, numbersText } from "../report.js";
import { caseText } from "./tables.js";

// Vega-Lite specifications.

const look = {
  $schema: "https://vega.github.io/schema/vega-lite/v6.json",
  background: "white",
  padding: 8,
  config: {
    font: "system-ui, sans-serif",
    axis: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", gridColor: "#eee", labelLimit: 0 },
    title: { anchor: "start", frame: "group", fontSize: 14 },
    legend: { labelLimit: 0 },
    view: { stroke: "#ddd" },
  },
};

const band = 16;
const us = 1e6;

/** Times of every operator by tokens, and how close they come to the ceiling; contenders; how dtypes and formats compare. */
export function reportChart({ groups }: Pick<BenchReport, "groups">): object {
  const vconcat = groupsInTurns(groups).flatMap((own) => {
    const formats = formatPlot(own);
    return [...own.flatMap(groupPlots), ...(formats ? [{ title: groupsText(own), ...formats }] : [])];
  });
  return { ...look, vconcat, spacing: 32, resolve: { scale: { color: "independent", y: "independent" } } };
}

function groupPlots(group: BenchGroup): object[] {
  const title = groupText(group);
  const contenders = contenderPlot(group);
  return [
    { title, hconcat: [timePlot(group), ...(group.ceilings ? [ceilingPlot(group)] : [])], spacing: 24 },
    ...(contenders ? [{ title: `${title}: contenders`, ...contenders }] : []),
  ];
}

const operatorAxis = { field: "name", type: "nominal", sort: null, title: null };
const tokenColor = (results: BenchGroup["results"]) => ({
  field: "tokens",
  type: "ordinal",
  title: "tokens",
  scale: { scheme: "viridis", domain: [...new Set(results.map(({ tokens }) => tokens))] },
});

const kinds = ["until results are ready", "on the device"];

function timePlot({ results }: BenchGroup): object {
  const values = results.flatMap(({ name, tokens, total, device }) =>
    [total, device].flatMap((times, index) =>
      times === null
        ? []
        : [
            {
              ...{ name, tokens, kind: kinds[index] },
              median: times.median * us,
              lower: times.lowerQuartile * us,
              upper: times.upperQuartile * us,
            },
          ],
    ),
  );
  const color = tokenColor(results);
  const axis = { grid: true, tickCount: 8, format: "~r" };
  const x = { field: "median", type: "quantitative", scale: { type: "log" }, title: "time of a call (µs)", axis };
  const shape = { field: "kind", type: "nominal", title: null, scale: { domain: kinds, range: ["circle", "diamond"] } };
  return {
    data: { values },
    width: 420,
    height: { step: band },
    encoding: { y: { ...operatorAxis, axis: { grid: true } }, color },
    layer: [
      { mark: { type: "rule", strokeWidth: 1.5 }, encoding: { x: { ...x, field: "lower" }, x2: { field: "upper" } } },
      { mark: { type: "point", filled: true, size: 45, opacity: 1 }, encoding: { x, shape } },
    ],
  };
}

/** More than this is drawn as this. */
const mostOfCeiling = 1.25;

function ceilingPlot({ results }: BenchGroup): object {
  const values = results.map(({ name, tokens, ofCeiling }) => ({
    ...{ name, tokens },
    ofCeiling: Math.min(ofCeiling ?? 0, mostOfCeiling),
  }));
  return {
    data: { values },
    width: 280,
    height: { step: band },
    encoding: {
      y: { ...operatorAxis, axis: { labels: false, ticks: false, grid: true, domain: false } },
      x: {
        field: "ofCeiling",
        type: "quantitative",
        title: "share of the ceiling, on the device",
        scale: { domain: [0, mostOfCeiling] },
        axis: { format: "%", values: [0, 0.25, 0.5, 0.75, 1, mostOfCeiling] },
      },
      color: tokenColor(results),
    },
    mark: { type: "point", filled: true, size: 45, opacity: 1 },
  };
}

/** How long contenders take, as a multiple of our time. */
function contenderPlot({ results }: BenchGroup): object | undefined {
  const values = results.flatMap((result) =>
    result.contenders.flatMap(({ name: contender, timesOurs }) =>
      timesOurs ? [{ case: plotted(result), contender, ratio: timesOurs.median }] : [],
    ),
  );
  if (values.length === 0) return undefined;
  return ratioPlot(values, {
    title: "times as long as moe-kernels (1: the same)",
    color: { field: "contender", type: "nominal", title: null },
  });
}

/** How long dtypes and formats take, as a multiple of the first one's time. */
function formatPlot(groups: readonly BenchGroup[]): object | undefined {
  const values = groups.flatMap((group) =>
    group.results.flatMap((result) =>
      result.timesFirst ? [{ case: plotted(result), format: numbersText(group), ratio: result.timesFirst.median }] : [],
    ),
  );
  if (values.length === 0) return undefined;
  return ratioPlot(values, {
    title: `times as long as ${numbersText(groups[0] as BenchGroup)} (1: the same)`,
    color: { field: "format", type: "nominal", title: null },
  });
}

const plotted = ({ name, tokens }: Pick<BenchGroup["results"][number], "name" | "tokens">) => `${name}, T ${tokens}`;

interface Ratio {
  readonly case: string;
  readonly ratio: number;
}

/** Ratios on a logarithmic scale, as points on a line from 1. */
function ratioPlot(values: readonly Ratio[], { title, color }: { title: string; color: object }): object {
  const axis = { format: "~r", tickCount: 8 };
  const x = { field: "ratio", type: "quantitative", scale: { type: "log", nice: true }, title, axis };
  const y = { field: "case", type: "nominal", sort: null, title: null, axis: { grid: true } };
  return {
    data: { values: values.map((value) => ({ ...value, one: 1 })) },
    width: 480,
    height: { step: band },
    layer: [
      { mark: { type: "rule", color: "#444" }, encoding: { x: { ...x, field: "one", aggregate: "min" } } },
      {
        mark: { type: "rule", strokeWidth: 2 },
        encoding: { x: { ...x, field: "one" }, x2: { field: "ratio" }, y, color },
      },
      { mark: { type: "point", filled: true, size: 60, opacity: 1 }, encoding: { x, y, color } },
    ],
  };
}

/** How much longer or shorter calls take in the second report. */
export function comparisonChart({ cases }: Comparison, names: { before: string; after: string }): object {
  const verdicts = ["faster", "same", "slower"];
  const groups = [...new Set(cases.map(({ group }) => group))];
  const vconcat = groups.map((group) => {
    const values = cases
      .filter((one) => one.group === group)
      .map((one) => ({ case: `${caseText(one)}, T ${one.tokens}`, ratio: one.ratio, verdict: one.verdict }));
    const color = {
      field: "verdict",
      type: "nominal",
      title: null,
      scale: { domain: verdicts, range: ["#2a9d5c", "#999999", "#c0392b"] },
    };
    return { title: group, ...ratioPlot(values, { title: `time in ${names.after} / time in ${names.before}`, color }) };
  });
  return { ...look, vconcat, spacing: 32 };
}
