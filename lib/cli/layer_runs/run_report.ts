import type { RouterHistory } from "../../statistics/router_history.js";
import { routerReport } from "../../statistics/router_report.js";
import { plural } from "../../terminal/format.js";
import type { OutputFile } from "../../terminal/output_file.js";
import { storageInWords } from "../layer_in_words.js";
import type { LayerRun } from "./layer_run.js";

/** A run that recorded what its router did. */
export type RecordedRun = LayerRun & { readonly history: RouterHistory };

/** The run of each layer on its first device, if that recorded its router. */
export function recordedRuns(layers: readonly (readonly LayerRun[])[]): RecordedRun[] {
  return layers.flatMap((runs) => runs.slice(0, 1)).filter((run): run is RecordedRun => run.history !== null);
}

/** Writes what the routers of some layers, at least one, did with the same tokens on one device. */
export async function writeRunReport(file: OutputFile, title: string, runs: readonly RecordedRun[]): Promise<void> {
  const { device, tokens, history } = runs[0] as RecordedRun;
  const given = `${plural(tokens.count, "token")} (${tokens.origin})`;
  const layers =
    runs.length === 1
      ? `The layer was given ${given}`
      : `Each layer by itself was given the same ${given}, not the output of the layer before`;
  const about = `${layers}, in slices of ${plural(history.windows[0]?.tokens ?? 0, "token")} that count as one call each.`;
  const routers = runs.map((run) => ({
    name: run.layer,
    history: run.history,
    dtype: storageInWords(run.description),
  }));
  await file.write(await routerReport(routers, file.extension, { title, device, about }));
}
