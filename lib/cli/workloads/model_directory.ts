import type { LoadOptions } from "../../checkpoint/load.js";
import { MoeLayer } from "../../moe_layer.js";
import type { TokenSource } from "./tokens.js";
import type { Workload } from "./workload.js";

/** One layer of a Hugging Face model directory; `cache` as in {@link MoeLayer.load}. */
export function modelDirectory(
  directory: string,
  layer: number,
  tokens: TokenSource,
  cache: LoadOptions["cache"] = false,
): Workload {
  return {
    title: `layer ${layer} of ${directory}`,
    layer: `layer ${layer}`,
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
