import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { packageRoot } from "#lib/core/package_root.js";
import { peerFormats } from "./problem.js";
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

/** Draws a Vega-Lite specification as SVG. */
export function renderChart(specification: object): string {
  const script = join(packageRoot(), "bench", "peers", "programs", "render_chart.mjs");
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
    input: JSON.stringify(specification),
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new Error(`${script} failed: ${stderr}`);
  return stdout;
}
