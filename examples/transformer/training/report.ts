import { writeFile } from "node:fs/promises";
import type { Transformer } from "../model/transformer.js";
import { drawLineChart, escaped, type Line } from "./line_chart.js";
import type { Step } from "./trainer.js";

/** What a run recorded. */
export interface History {
  readonly steps: Step[];
  /** Validation loss after a number of steps. */
  readonly validation: { step: number; loss: number; accuracy: number }[];
}

/** Losses are shown in bits for each byte. */
export function bits(nats: number): number {
  return nats / Math.LN2;
}

/** Loss curves of a run: in training thin, in validation dashed lines. */
function lossChart(name: string, history: History): string {
  const lines: Line[] = [
    { name: `${name}: training`, points: history.steps.map(({ step, loss }) => [step, bits(loss)] as const) },
    {
      name: `${name}: validation`,
      points: history.validation.map(({ step, loss }) => [step, bits(loss)] as const),
      dashed: true,
    },
  ];
  return drawLineChart({ title: "loss", x: "step", y: "bits per byte", lines: limited(lines) });
}

/** Validation curves alone. */
export function validationChart(title: string, runs: readonly { name: string; history: History }[]): string {
  const lines = runs.map(
    ({ name, history }): Line => ({
      name,
      points: history.validation.map(({ step, loss }) => [step, bits(loss)] as const),
    }),
  );
  return drawLineChart({ title, x: "step", y: "bits per byte", lines: limited(lines) });
}

/** The share of every expert of one mixture. */
export function loadChart(history: History, mixture: number): string {
  const experts = history.steps[0]?.loads[mixture]?.length ?? 0;
  const lines = Array.from(
    { length: experts },
    (_, expert): Line => ({
      name: `expert ${expert}`,
      points: history.steps.map(({ step, loads }) => [step, loads[mixture][expert]] as const),
    }),
  );
  return drawLineChart({
    title: `load of mixture ${mixture + 1}`,
    x: "step",
    y: "share of choices",
    lines,
    range: [0, Math.max(...lines.flatMap(({ points }) => points.map(([, share]) => share)), 2 / experts)],
  });
}

/** What a model's run recorded: its losses, and the load of each of its mixtures. */
export function runCharts({ config, mixtures }: Transformer, history: History): string[] {
  return [
    lossChart(config.mixture ? "mixture" : "dense", history),
    ...mixtures.map((_, mixture) => loadChart(history, mixture)),
  ];
}

/** Leaves out the first losses, next to which all others look alike. */
function limited(lines: readonly Line[]): Line[] {
  const last = Math.max(...lines.flatMap(({ points }) => points.map(([step]) => step)));
  const from = last > 100 ? last / 20 : 0;
  return lines.map((line) => ({ ...line, points: line.points.filter(([step]) => step >= from) }));
}

/** Writes a web page of charts. */
export async function writeReport(
  path: string,
  { title, facts, charts }: { title: string; facts: readonly string[]; charts: readonly string[] },
): Promise<void> {
  const items = facts.map((fact) => `<li>${escaped(fact)}</li>`).join("\n");
  const page = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${escaped(title)}</title></head>
<body style="font-family: sans-serif; max-width: 760px; margin: 2em auto">
<h1>${escaped(title)}</h1>
<ul>
${items}
</ul>
${charts.join("\n")}
</body>
</html>
`;
  await writeFile(path, page);
}
