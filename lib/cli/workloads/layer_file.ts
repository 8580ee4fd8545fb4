import { basename } from "node:path";
import { openLayerFile } from "../../checkpoint/layer_file/layer_file.js";
import type { Workload } from "./workload.js";

/** The layer of a layer file, on the file's own tokens. */
export async function layerFile(path: string): Promise<Workload> {
  const file = await openLayerFile(path);
  const { expected } = file;
  return {
    title: `${file.family} layer of ${basename(path)}`,
    ...(expected && {
      expectation: {
        ...(expected.routing && {
          routing: { ids: expected.routing.ids, weights: expected.routing.weightsF64 },
        }),
        output: expected.outputF64,
        ...(file.noise && { noise: file.noise }),
      },
    }),
    load: (device, dtype, onProgress) =>
      file.load(device, dtype, { onProgress: ({ bytesRead, bytesTotal }) => onProgress(bytesRead / bytesTotal) }),
    tokens: () => ({ origin: path, x: file.x, shape: file.shape }),
  };
}
