import type { LayerDetails } from "../../checkpoint/inspect_model.js";
import type { LoadOptions } from "../../checkpoint/load.js";
import { MoeLayer } from "../../moe_layer.js";
import type { TokenSource } from "./tokens.js";
import type { Workload } from "./workload.js";

/** One layer of a Hugging Face model directory; `cache` as in {@link MoeLayer.load}. */
export function modelDirectory(
  directory: string,
  layer: number,
  tokens: TokenSource,
  cache: NonNullable<LoadOptions["cache"]>,
  details: LayerDetails,
): Workload {
  return {
    title: `layer ${layer} of ${directory}`,
    layer: `layer ${layer}`,
    details,
    load: (device, { dtype, tokenFormat }, onProgress) =>
      MoeLayer.load(directory, {
        layer,
        device,
        cache,
        ...(dtype && { dtype }),
        ...(tokenFormat && { tokenFormat }),
        onProgress: ({ bytesRead, bytesTotal }) => onProgress(bytesRead / bytesTotal),
      }),
    ...tokens,
  };
}
