import { cannotCombine } from "../../core/errors.js";
import { metadataText, readLayer } from "../layer_file/layer_file.js";
import { readSaved, type SavedLayer } from "../layer_file/saved_layer.js";
import { savedLocator, savedTensors } from "../layer_file/saved_tensors.js";
import { type LayerTensors, sizesIn } from "../locate/locate_layer.js";
import { tensorLocator } from "../locate/locate_tensors.js";
import { SafetensorsFile } from "../safetensors/file.js";
import { Quantization } from "../schemes/quantization.js";
import { hasInputTensor, hasMatrix } from "../schemes/stored_matrix.js";
import type { ModelFiles, ModelFormula } from "./model_files.js";

export interface SingleFile extends ModelFiles {
  readonly file: SafetensorsFile;
  /** What the file says of its layer if MoeLayer.save wrote it. */
  readonly saved: SavedLayer | undefined;
}

/** Opens one safetensors file. @throws BAD_CHECKPOINT */
export async function openSingleFile(path: string, signal?: AbortSignal): Promise<SingleFile> {
  const file = await SafetensorsFile.open(path, { signal });
  try {
    return singleFile(file, readSaved(file));
  } catch (error) {
    await file.close();
    throw error;
  }
}

function singleFile(file: SafetensorsFile, saved: SavedLayer | undefined): SingleFile {
  const { path } = file;
  const quantization = new Quantization();
  const has = (name: string) => file.tensors.has(name);
  const fileOf = async () => file;
  const locator = (origin: string, tensors?: LayerTensors, isGiven?: boolean) =>
    tensorLocator({ origin, quantization, tensors, isGiven, has, fileOf });
  return {
    path,
    file,
    saved,
    whyNoWeights: "",
    quantization,
    storage: undefined,
    hasWeight: (name) => hasMatrix(has, name),
    layer: (tensors, isGiven) => ({
      locate: saved === undefined ? locator(sizesIn(path), tensors, isGiven) : savedLocator(file, saved),
      hasInputTensor: (name) => hasInputTensor(has, name),
      has: (name) => hasMatrix(has, name) || has(`${name}.codes`),
      find: async (name) => file.tensors.get(name),
    }),
    locate: (origin) => locator(origin),
    cached: async () => {
      throw cannotCombine("cache", "a layer file");
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** What a layer file says: a model of a single layer. @throws BAD_CHECKPOINT, UNSUPPORTED_OPERATION */
export function layerFileFormula({ path, file, saved }: SingleFile): ModelFormula {
  const { config, tensors } = saved ? { ...saved, tensors: savedTensors(file, saved) } : readLayer(file);
  return {
    path,
    layerCount: 1,
    method: undefined,
    dtype: undefined,
    family: () => (saved ? "a saved layer" : metadataText(file, "family")),
    layersWithExperts: () => [0],
    checkLayer: (layer, name = "layer") => {
      if (layer !== undefined && layer !== 0) throw cannotCombine(name, "a layer file, which holds a single layer");
      return 0;
    },
    config: () => config,
    tensors: () => tensors,
    ...(saved && { saved: saved.storage }),
  };
}
