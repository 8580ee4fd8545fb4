import { groupRefused, type RefusedLayers } from "../../checkpoint/inspect/read_layers.js";
import { isMoeError, type MoeError } from "../../core/errors.js";
import type { Io } from "../io.js";
import type { Workloads } from "../workloads/workload.js";
import type { LayerRun } from "./layer_run.js";
import { type RunOnDevicesOptions, runOnDevices } from "./run_on_devices.js";

/** What came of workloads. */
interface WorkloadRuns {
  /** Those of each layer, device by device. */
  readonly layers: readonly (readonly LayerRun[])[];
  /** The layers that were left out. */
  readonly refused: readonly RefusedLayers[];
}

/**
 * Runs workloads one after another. Of a whole model, layers that loading refuses are left out.
 * @throws the first one's error if all are.
 */
export async function runWorkloads(opened: Workloads, options: RunOnDevicesOptions, io: Io): Promise<WorkloadRuns> {
  const layers: LayerRun[][] = [];
  const refused = [...opened.refused];
  for (const workload of opened.workloads) {
    try {
      layers.push(await runOnDevices(workload, options, io));
    } catch (error) {
      if (!opened.leavesOutRefused || !isRefusal(error)) throw error;
      refused.push({ layer: workload.number as number, error });
    }
  }
  const [first] = refused;
  if (layers.length === 0 && first !== undefined) throw first.error;
  return { layers, refused: groupRefused(refused.sort((a, b) => a.layer - b.layer)) };
}

/** Whether an error is about the one layer: its tensors are missing or make no sense, or are in formats that do not go together. */
function isRefusal(error: unknown): error is MoeError {
  return isMoeError(error, "BAD_CHECKPOINT", "UNSUPPORTED_OPERATION");
}
