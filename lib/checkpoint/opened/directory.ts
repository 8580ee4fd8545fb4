import { join } from "node:path";
import { cachedDirectory } from "../cache/cached_model.js";
import { ConfigFields } from "../config_fields.js";
import { type LayerTensors, sizesIn } from "../locate/locate_layer.js";
import { Model } from "../model.js";
import { configName, missingWeights } from "../remedies.js";
import { exists } from "../safetensors/regular_file.js";
import { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";
import { Quantization, type QuantMethod } from "../schemes/quantization.js";
import { hasMatrix } from "../schemes/stored_matrix.js";
import { type LayerFiles, shardedFiles } from "./layer_files.js";
import { type ModelFiles, type ModelFormula, once } from "./model_files.js";

export interface DirectoryFiles extends ModelFiles {
  /** config.json; undefined if there is none. */
  readonly fields: ConfigFields | undefined;
  /** Whether there is a tensor of this name. */
  has(name: string): boolean;
}

/** Opens the weights of a Hugging Face model directory, if there are any. @throws BAD_CHECKPOINT */
export async function openDirectory(
  directory: string,
  { signal, quantMethod }: { signal?: AbortSignal | undefined; quantMethod?: QuantMethod | undefined },
): Promise<DirectoryFiles> {
  const hasConfig = await exists(join(directory, configName));
  const fields = hasConfig ? await ConfigFields.read(directory, signal) : undefined;
  const quantization = await Quantization.read(directory, fields, { signal, quantMethod });
  const checkpoint = await ShardedCheckpoint.find(directory, { signal });
  const missing = checkpoint === undefined ? await missingWeights(directory) : undefined;
  const filesOf = (origin: string, tensors?: LayerTensors, isGiven?: boolean): LayerFiles => {
    if (checkpoint !== undefined) return shardedFiles(checkpoint, { origin, quantization, tensors, isGiven });
    const locate = async () => {
      throw missing;
    };
    return { locate, hasInputTensor: () => false, has: () => false, find: async () => undefined };
  };
  const has = (name: string) => checkpoint?.has(name) ?? false;
  return {
    path: directory,
    fields,
    whyNoWeights: missing?.message ?? "",
    quantization,
    storage: undefined,
    has,
    hasWeight: (name) => hasMatrix(has, name),
    layer: (tensors, isGiven) => filesOf(sizesIn(join(directory, configName)), tensors, isGiven),
    locate: (origin) => filesOf(origin).locate,
    cached: once(() => cachedDirectory(directory)),
    [Symbol.asyncDispose]: async () => await checkpoint?.close(),
  };
}

/** What config.json says. @throws BAD_CHECKPOINT */
export async function directoryFormula({ path, fields, quantization, has }: DirectoryFiles): Promise<ModelFormula> {
  const model = new Model(fields ?? (await ConfigFields.read(path)), quantization);
  return {
    path: model.fields.path,
    layerCount: model.layerCount,
    method: quantization.method,
    dtype: model.dtype,
    family: () => model.family.modelType,
    layersWithExperts: () => model.layersWithExperts(),
    checkLayer: (layer, name) => model.checkLayer(layer, name),
    config: (layer) => model.config(layer),
    tensors: (layer) => model.tensors(layer, has),
  };
}
