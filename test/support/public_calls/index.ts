import type * as api from "../../../lib/index.js";
import type { PublicCall } from "./call.js";
import { expertCalls } from "./experts.js";
import { fileCalls } from "./files.js";
import { layerCalls } from "./layers.js";
import { modelCalls } from "./models.js";
import { offloadCalls } from "./offload.js";
import { optimizerCalls } from "./optimizers.js";
import { routingCalls } from "./routing.js";
import { statisticsCalls } from "./statistics.js";
import { tensorCalls } from "./tensors.js";

export { argumentLists, type Options, type PublicCall } from "./call.js";

export interface PublicCalls {
  readonly calls: readonly PublicCall[];
  close(): Promise<void>;
}

/** Every public function and method with arguments: on `device`, with files in `directory`. */
export async function publicCalls(device: api.Device, directory: string): Promise<PublicCalls> {
  const parts = [
    tensorCalls(device),
    routingCalls(device),
    expertCalls(device),
    await statisticsCalls(device, directory),
    optimizerCalls(device),
    layerCalls(device, directory),
    offloadCalls(),
    await modelCalls(device, directory),
    await fileCalls(directory),
  ];
  return {
    calls: parts.flatMap(({ calls }) => calls.map((call) => ({ valid: [], after: [], ...call }))),
    async close() {
      for (const part of parts) await part.close?.();
    },
  };
}
