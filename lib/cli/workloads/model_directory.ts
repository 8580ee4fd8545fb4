import type { LayerDetails } from "../../checkpoint/inspect_model.js";
import type { LoadOptions } from "../../checkpoint/load.js";
import { MoeLayer } from "../../moe_layer.js";
import type { TokenSource } from "./tokens.js";
import type { Workload } from "./workload.js";

/**
 * One layer of a model.
 * @param given.cache as in {@link MoeLayer.load}.
 * @param given.original the model whose layer it is compared with.
 */
export function modelDirectory(
  directory: string,
  layer: number,
  tokens: TokenSource,
  { cache, original }: { cache: NonNullable<LoadOptions["cache"]>; original: string | undefined },
  details: LayerDetails,
): Workload {
  return {
    title: `layer ${layer} of ${directory}`,
    layer: `layer ${layer}`,
    details,
    ...(original !== undefined && {
      original: { model: original, load: (device) => MoeLayer.load(original, { layer, device }) },
    }),
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
