import { offloadPolicies } from "../../core/device/backend.js";
import { hitRate, type SlotsResult } from "./replay.js";

/** Vega-Lite specification: the hit rate of every policy over the number of slots. */
export function hitRateChart(results: readonly SlotsResult[], title: string): object {
  const mostUsed = "most used experts";
  const names = [...offloadPolicies, mostUsed];
  const values = results.flatMap(({ slots, policies, mostUsed: share }) => [
    ...offloadPolicies.map((name) => ({ slots, name, rate: hitRate(policies[name]) })),
    { slots, name: mostUsed, rate: share },
  ]);
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: title, anchor: "start" },
    background: "white",
    padding: 8,
    config: { font: "system-ui, sans-serif", axis: { gridColor: "#eee" }, view: { stroke: null } },
    data: { values },
    width: 560,
    height: 320,
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "slots", type: "quantitative", title: "slots" },
      y: { field: "rate", type: "quantitative", title: "hit rate", axis: { format: "%" }, scale: { domain: [0, 1] } },
      color: { field: "name", type: "nominal", sort: names, legend: { title: null } },
      strokeDash: {
        condition: { test: `datum.name === "${mostUsed}"`, value: [4, 4] },
        value: [1, 0],
      },
    },
  };
}
