import { printable } from "../../core/text/printable.js";
import type { DeviceName } from "../../devices.js";
import { withProgress } from "../../terminal/progress.js";
import type { Io } from "../io.js";
import { layerInWords } from "../layer_in_words.js";
import type { Workload } from "../workloads/workload.js";
import { type LayerRun, type LayerRunOptions, runWorkload } from "./layer_run.js";
import { printHeatMap, printLayerRun, printTokensPerExpert } from "./print_layer_run.js";

export interface RunOnDevicesOptions extends Omit<LayerRunOptions, "device" | "onLoad"> {
  readonly devices: readonly DeviceName[];
  /** Print each expert's load over the tokens too, if `history` asks for it. */
  readonly heatMap?: boolean;
  /** Print only progress. */
  readonly quiet?: boolean;
}

/** Runs a workload's layer on each device in turn and prints each result as soon as it is known. */
export async function runOnDevices(workload: Workload, options: RunOnDevicesOptions, io: Io): Promise<LayerRun[]> {
  const { devices, heatMap = false, quiet = false, ...rest } = options;
  const runs: LayerRun[] = [];
  const what = workload.number === undefined ? "" : `${workload.layer} `;
  for (const device of devices) {
    const run = await withProgress(io.stderr, `Loading and running ${what}on ${device}`, 1, (onLoad) =>
      runWorkload(workload, { ...rest, device, onLoad }),
    );
    if (!quiet) {
      if (runs.length === 0) {
        io.stdout.write(`${printable(workload.title)}\n${layerInWords(run.description, workload.details)}\n`);
      }
      printLayerRun(run, io);
    }
    runs.push(run);
  }
  const [first] = runs;
  if (quiet || first === undefined) return runs;
  printTokensPerExpert(first, io);
  if (heatMap && first.history !== null) printHeatMap(first, first.history, io);
  return runs;
}

/** Whether every comparison of every run is within its tolerance. */
export function allPassed(runs: readonly LayerRun[]): boolean {
  return runs.every(({ checks }) => checks.every(({ passed }) => passed));
}
