import { peerFormats } from "./formats.js";
import type { Group } from "./report.js";

/** Vega-Lite specification: how close each contender comes to the ceiling, by tokens, shape and dtype. */
export function chartSpecification(groups: readonly Group[], subtitle: string): object {
  const values = groups.flatMap(({ shape, format, cells }) =>
    cells.flatMap(({ tokens, results }) =>
      results.map(({ name, ofCeiling }) => ({ shape: `shape ${shape}`, format, tokens, name, ofCeiling })),
    ),
  );
  const names = [...new Set(values.map(({ name }) => name))];
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: { text: "Share of the machine's ceiling that a layer reaches on the CPU", subtitle },
    background: "white",
    data: { values },
    mark: "bar",
    width: { step: 9 },
    height: 180,
    encoding: {
      column: { field: "shape", type: "nominal", title: null },
      row: { field: "format", type: "nominal", title: null, sort: peerFormats },
      x: { field: "tokens", type: "ordinal", title: "tokens per call", axis: { labelAngle: 0 } },
      xOffset: { field: "name", type: "nominal", sort: names },
      y: { field: "ofCeiling", type: "quantitative", title: "share of the ceiling", axis: { format: "%" } },
      color: { field: "name", type: "nominal", sort: names, legend: { title: null, labelLimit: 0 } },
    },
    resolve: { scale: { x: "independent" } },
  };
}
