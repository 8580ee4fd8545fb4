import { ggufLocator } from "../checkpoint/gguf/locate.js";
import { GgufModel } from "../checkpoint/gguf/model.js";
import { SplitGguf } from "../checkpoint/gguf/split.js";
import type { LayerTensors } from "../checkpoint/locate.js";
import { Model } from "../checkpoint/model.js";
import { ShardedCheckpoint } from "../checkpoint/safetensors/sharded_checkpoint.js";
import { declaredTokens } from "../checkpoint/schemes/checkpoint_tokens.js";
import { type LayerFiles, shardedFiles } from "../checkpoint/storage.js";
import type { TokenScheme } from "../core/token_format.js";
import type { MoeLayerConfig } from "../layer/description/config.js";

/** A model whose layers are inspected: a directory or a GGUF file. */
export interface InspectedModel extends AsyncDisposable {
  /** The file that says what the layers compute, for errors. */
  readonly path: string;
  readonly layerCount: number;
  /** The method that the configuration names for quantised weights. */
  readonly quantization: string | undefined;
  /** What the configuration says about the experts' inputs. @throws UNSUPPORTED_OPERATION */
  tokens(): TokenScheme | undefined;
  /** The dtype that the configuration names. */
  readonly dtype: string | undefined;
  readonly hasWeights: boolean;
  family(layer: number): string;
  layersWithExperts(): readonly number[];
  checkLayer(layer: number): number;
  config(layer: number): MoeLayerConfig;
  tensors(layer: number): LayerTensors;
  /** The files of a layer; undefined without weights. */
  files(config: MoeLayerConfig, tensors: LayerTensors): LayerFiles | undefined;
}

/** Opens a Hugging Face model directory, or a GGUF file. @throws BAD_CHECKPOINT */
export async function openInspected(path: string): Promise<InspectedModel> {
  return path.endsWith(".gguf") ? openGguf(path) : openDirectory(path);
}

async function openDirectory(directory: string): Promise<InspectedModel> {
  const model = await Model.read(directory);
  const checkpoint = await ShardedCheckpoint.find(directory);
  const { fields, layerCount, quantization, dtype } = model;
  return {
    path: fields.path,
    layerCount,
    quantization: quantization.method,
    tokens: () => declaredTokens(quantization),
    dtype,
    hasWeights: checkpoint !== undefined,
    family: () => model.family.modelType,
    layersWithExperts: () => model.layersWithExperts(),
    checkLayer: (layer) => model.checkLayer(layer),
    config: (layer) => model.config(layer),
    tensors: (layer) => model.tensors(layer, (name) => checkpoint?.has(name) ?? false),
    files: ({ numExperts }) =>
      checkpoint && shardedFiles(checkpoint, { configPath: fields.path, numExperts, quantization }),
    [Symbol.asyncDispose]: async () => await checkpoint?.close(),
  };
}

async function openGguf(path: string): Promise<InspectedModel> {
  const files = await SplitGguf.open(path);
  try {
    const model = new GgufModel(files);
    return {
      path,
      layerCount: model.layerCount,
      quantization: "GGUF",
      tokens: () => undefined,
      dtype: undefined,
      hasWeights: true,
      family: (layer) => model.family(layer).modelType,
      layersWithExperts: () => model.layersWithExperts(),
      checkLayer: (layer) => model.checkLayer(layer),
      config: (layer) => model.config(layer),
      tensors: (layer) => model.tensors(layer),
      files: (config, tensors) => ({
        locate: ggufLocator({ files, config, tensors }),
        has: (name) => files.has(name),
        find: async (name) => {
          const { type: dtype, byteLength } = files.fileOf(name).info(name);
          return { dtype, byteLength };
        },
      }),
      [Symbol.asyncDispose]: () => files.close(),
    };
  } catch (error) {
    await files.close();
    throw error;
  }
}
