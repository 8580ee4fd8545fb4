import { basename } from "node:path";
import { openLayerFile } from "../../checkpoint/layer_file/layer_file.js";
import type { Progress } from "../../checkpoint/load/matrix_reader.js";
import { MoeLayer } from "../../moe_layer.js";
import type { Workload } from "./workload.js";

/** The layer of a layer file, with the file's own tokens. */
export async function layerFile(path: string): Promise<Workload> {
  const file = await openLayerFile(path);
  const { expected } = file;
  return {
    title: `${file.family} layer of ${basename(path)}`,
    layer: "layer",
    ...(expected && {
      expectation: {
        ...(expected.routing && {
          routing: { ids: expected.routing.ids, weights: expected.routing.weightsF64 },
        }),
        output: expected.outputF64,
        ...(file.noise && { noise: file.noise }),
      },
    }),
    load: async (device, { dtype, tokenFormat = "none" }, onProgress) => {
      const report = ({ bytesRead, bytesTotal }: Progress) => onProgress(bytesRead / bytesTotal);
      return await MoeLayer.load(path, {
        device,
        tokenFormat,
        onProgress: report,
        ...(dtype && { dtype }),
      });
    },
    tokens: () => ({ origin: path, x: file.x, shape: file.shape }),
  };
}
