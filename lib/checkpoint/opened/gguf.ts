import { cachedGguf } from "../cache/cached_model.js";
import { ggufLocator } from "../gguf/locate.js";
import { GgufModel } from "../gguf/model.js";
import { SplitGguf } from "../gguf/split.js";
import { sizesIn } from "../locate/locate_layer.js";
import { Quantization } from "../schemes/quantization.js";
import { type ModelFiles, type ModelFormula, once } from "./model_files.js";

export interface GgufFiles extends ModelFiles {
  readonly files: SplitGguf;
}

/** Opens a GGUF file, or a model in several by the first. @throws BAD_CHECKPOINT */
export async function openGguf(path: string, signal?: AbortSignal): Promise<GgufFiles> {
  const files = await SplitGguf.open(path, { signal });
  return {
    path,
    files,
    whyNoWeights: "",
    quantization: new Quantization(),
    // Routers are float32 there whatever the experts are, so every role keeps its own format.
    storage: {},
    hasWeight: (name) => files.has(name),
    layer: (tensors) => ({
      locate: ggufLocator({ files, origin: sizesIn(path), tensors }),
      hasInputTensor: () => false,
      has: (name) => files.has(name),
      find: async (name) => {
        const { type: dtype, byteLength } = files.fileOf(name).info(name);
        return { dtype, byteLength };
      },
    }),
    locate: (origin) => ggufLocator({ files, origin, tensors: {} }),
    cached: once(() => cachedGguf(files)),
    [Symbol.asyncDispose]: () => files.close(),
  };
}

/** What the metadata say. @throws BAD_CHECKPOINT */
export function ggufFormula({ path, files }: GgufFiles): ModelFormula {
  const model = new GgufModel(files);
  return {
    path,
    layerCount: model.layerCount,
    method: "GGUF",
    dtype: undefined,
    family: (layer) => model.family(layer),
    layersWithExperts: () => model.layersWithExperts(),
    checkLayer: (layer, name) => model.checkLayer(layer, name),
    config: (layer) => model.config(layer),
    tensors: (layer) => model.tensors(layer),
  };
}
