import { type ChartWindow, stepsOf } from "./report_page/summaries.js";
import { type RouterHistory, relativeLoad } from "./router_history.js";

const maximumWidth = 760;

/**
 * A router's history as a Vega-Lite specification: the load of every expert over time, the total tokens per expert, and
 * maximum violation and entropy over time.
 */
export function routerChart(history: RouterHistory): object {
  const experts = history.tokensPerExpert.length;
  const windows = stepsOf(history);
  // Whole pixels avoid seams between the cells.
  const cellWidth = Math.max(1, Math.floor(maximumWidth / Math.max(1, windows.length)));
  const width = Math.max(320, cellWidth * windows.length);
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    padding: 8,
    config: {
      font: "system-ui, sans-serif",
      axis: { labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", gridColor: "#eee" },
      title: { anchor: "start", frame: "group", fontSize: 14 },
      view: { stroke: null },
    },
    vconcat: [
      loadOverTime(windows, experts, width),
      tokensPerExpert(history, width),
      violationOverTime(history, windows, width),
      entropyOverTime(windows, experts, width),
    ],
    // Align the plots, not their labels.
    bounds: "flush",
    spacing: 72,
  };
}

function loadOverTime(windows: readonly ChartWindow[], experts: number, width: number): object {
  const values = windows.flatMap((window) =>
    relativeLoad(window).map((load, expert) => ({ call: window.firstCall, expert, load })),
  );
  const top = values.reduce((most, { load }) => Math.max(most, load), 2);
  return {
    title: "Load over time",
    data: { values },
    mark: { type: "rect", aria: false },
    width,
    height: experts * Math.min(16, Math.max(2, Math.floor(640 / experts))),
    encoding: {
      x: { field: "call", type: "ordinal", title: "call", axis: { labelAngle: 0, labelOverlap: true, ticks: false } },
      y: { field: "expert", type: "ordinal", title: "expert", axis: { labelOverlap: true, ticks: false } },
      color: {
        field: "load",
        type: "quantitative",
        title: "tokens / mean",
        scale: { scheme: "viridis", domain: [0, top] },
      },
    },
  };
}

function tokensPerExpert({ tokensPerExpert }: RouterHistory, width: number): object {
  const mean = tokensPerExpert.reduce((a, b) => a + b, 0) / tokensPerExpert.length;
  return {
    title: "Tokens per expert; the line is the mean",
    width,
    height: 140,
    layer: [
      {
        data: { values: tokensPerExpert.map((tokens, expert) => ({ expert, tokens })) },
        mark: { type: "bar", color: "#31688e" },
        encoding: {
          x: {
            field: "expert",
            type: "ordinal",
            title: "expert",
            axis: { labelAngle: 0, labelOverlap: true, ticks: false },
          },
          y: { field: "tokens", type: "quantitative", title: "tokens" },
        },
      },
      {
        data: { values: [{ mean }] },
        mark: { type: "rule", color: "#d1495b", strokeWidth: 1.5 },
        encoding: { y: { field: "mean", type: "quantitative" } },
      },
    ],
  };
}

function violationOverTime(
  { maximumViolation: together }: RouterHistory,
  windows: readonly ChartWindow[],
  width: number,
): object {
  const values = windows.map(({ firstCall, maximumViolation }) => ({ call: firstCall, value: maximumViolation }));
  const title = `Maximum violation (fullest expert / mean - 1) of each step; of all calls together ${together.toFixed(3)}`;
  return overTime(title, "violation", values, [0], width);
}

function entropyOverTime(windows: readonly ChartWindow[], experts: number, width: number): object {
  const values = windows.map(({ firstCall, meanEntropy }) => ({ call: firstCall, value: meanEntropy }));
  const title = `Mean entropy of the router (at most ln ${experts} = ${Math.log(experts).toFixed(2)})`;
  return overTime(title, "nats", values, [0, Math.log(experts)], width);
}

function overTime(
  title: string,
  unit: string,
  values: readonly object[],
  shown: readonly number[],
  width: number,
): object {
  const axis = { tickMinStep: 1, format: "d" };
  const x = { field: "call", type: "quantitative", title: "call", axis, scale: { nice: false } };
  return {
    title,
    width,
    height: 100,
    layer: [
      {
        data: { values },
        mark: { type: "line", color: "#31688e", point: values.length <= 32 },
        encoding: { x, y: { field: "value", type: "quantitative", title: unit } },
      },
      // Invisible points that make the axis span these values.
      {
        data: { values: shown.map((value) => ({ value })) },
        mark: { type: "point", opacity: 0 },
        encoding: { y: { field: "value", type: "quantitative" } },
      },
    ],
  };
}
