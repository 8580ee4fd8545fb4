import type { ExpertRange } from "../core/backend.js";
import { type Device, openedDevice } from "../core/device.js";
import { cannotCombine, invalidArgument, MoeError, requires } from "../core/errors.js";
import { bankOption, checkBank } from "../core/expert_range.js";
import { callback, choice, type Fields, object, optional, type Read, unchecked } from "../core/options.js";
import type { MoeLayerDescription } from "../layer/description/config.js";
import { weightDTypes } from "../layer/description/storage.js";
import type { LayerParts } from "../layer/layer_parts.js";
import { offloadOption, offloadRule } from "../layer/offload.js";
import { quantizeOptions } from "../operators/formats/quantize.js";
import { type CacheChoice, type CacheOptions, cacheOption } from "./cache/cache_option.js";
import { type CachedModel, cachedDirectory, cachedGguf } from "./cache/cached_model.js";
import { type CacheStatus, openWeightCache } from "./cache/weight_cache.js";
import { ggufLocator } from "./gguf/locate.js";
import { GgufModel } from "./gguf/model.js";
import { SplitGguf } from "./gguf/split.js";
import { loadLayerFile } from "./layer_file/layer_file.js";
import type { LayerSource } from "./locate.js";
import { tensorLocator } from "./locate_tensors.js";
import { Model } from "./model.js";
import { abortSignal } from "./safetensors/file_options.js";
import { ShardedCheckpoint } from "./safetensors/sharded_checkpoint.js";
import { loadedTokenFormats } from "./schemes/checkpoint_tokens.js";
import { describeSource, loadWeights, type WeightOptions } from "./weights.js";

export interface LoadOptions extends WeightOptions {
  /**
   * Number of the layer whose MoE block is loaded, from 0. In encoder-decoder models the encoder's layers come first,
   * then the decoder's.
   */
  layer: number;
  device: Device;
  /**
   * Keep the packed weights in a file that the next load of this layer maps instead of reading and repacking: `true`
   * for the folder `.moe-kernels` in the model directory or beside the GGUF file, the path of a folder, which may serve any
   * number of models, or {@link CacheOptions}. The file is rewritten if the checkpoint's files, the configuration, `dtype`, `quantize`, `bank`,
   * the device's layout or the version of this package have changed, or if it is damaged. If the cache cannot be used,
   * loading still works; MoeLayer.cacheStatus reports the outcome. Default false.
   *
   * While a layer is in use, its mapped file may be deleted or replaced. If it is truncated or written to in place, the
   * next forward fails with BAD_CHECKPOINT; so does the first forward that needs damaged weights, which are checked
   * before they are used for the first time, and the forward during which the file is truncated or the disk fails.
   */
  cache?: boolean | string | CacheOptions;
}

/** Options for loading a layer file, which holds a single layer. */
export interface LoadFileOptions extends WeightOptions {
  device: Device;
}

const loadOptions = object(
  {
    layer: unchecked,
    device: openedDevice,
    dtype: optional(weightDTypes),
    quantize: optional(quantizeOptions),
    bank: optional(bankOption),
    tokenFormat: optional(choice(loadedTokenFormats), "none"),
    onProgress: optional(callback<NonNullable<WeightOptions["onProgress"]>>()),
    signal: optional(abortSignal),
    cache: cacheOption,
    offload: optional(offloadOption),
  } satisfies Fields<LoadOptions>,
  "{ layer: 0, device }",
);

export type ReadLoadOptions = Read<typeof loadOptions>;

/** A layer's parts, and the outcome of the cache if one was asked for. */
export interface LoadedLayer {
  readonly parts: LayerParts;
  readonly cacheStatus?: CacheStatus;
}

/**
 * Loads the MoE block of one layer from a Hugging Face model directory: `model_type` in config.json names the family,
 * and the family's file in `families/` says what the fields mean and how tensors are named. Or from a GGUF file, NAME.gguf,
 * by its metadata; of a model in several files, the first. Or loads the layer of a layer file, NAME.safetensors; see
 * {@link openLayerFile}.
 * @throws INVALID_ARGUMENT for a layer that the model does not have or that is dense; BAD_CHECKPOINT;
 * UNSUPPORTED_OPERATION for a layer file whose formula is not supported.
 */
export async function loadLayer(path: string, options: LoadOptions | LoadFileOptions): Promise<LoadedLayer> {
  if (typeof path !== "string") throw invalidArgument("directory", "a path", path);
  const read = loadOptions(options, "options");
  if (path.endsWith(".gguf")) return await loadFromGguf(path, read);
  return await (path.endsWith(".safetensors") ? loadFile(path, read) : loadFromModel(path, read));
}

async function loadFile(path: string, { layer = 0, cache, ...options }: ReadLoadOptions): Promise<LoadedLayer> {
  if (layer !== 0) throw cannotCombine("layer", "a layer file, which holds a single layer");
  if (cache !== undefined) throw cannotCombine("cache", "a layer file");
  return { parts: await loadLayerFile(path, options) };
}

async function loadFromModel(directory: string, options: ReadLoadOptions): Promise<LoadedLayer> {
  const { signal } = options;
  const model = await Model.read(directory, signal);
  const layer = model.checkLayer(options.layer);
  const config = model.config(layer);
  const bank = checkBank(options.bank, config.numExperts);
  await using checkpoint = await ShardedCheckpoint.open(directory, { signal });
  const { quantization } = model;
  const configPath = model.fields.path;
  const locate = tensorLocator({
    configPath,
    numExperts: config.numExperts,
    quantization,
    has: (name) => checkpoint.has(name),
    fileOf: (name) => checkpoint.fileOf(name),
  });
  const source = { configPath, config, bank, tensors: model.tensors(layer, (name) => checkpoint.has(name)), locate };
  const explain = (error: unknown): never => {
    throw model.explain(error);
  };
  const description = await describeSource(source, options, quantization).catch(explain);
  return await loadCached(
    source,
    description,
    { ...options, layer },
    () => cachedDirectory(directory),
    quantization.text,
  ).catch(explain);
}

async function loadFromGguf(path: string, options: ReadLoadOptions): Promise<LoadedLayer> {
  await using files = await SplitGguf.open(path, { signal: options.signal });
  const model = new GgufModel(files);
  const layer = model.checkLayer(options.layer);
  const config = model.config(layer);
  const bank = checkBank(options.bank, config.numExperts);
  const tensors = model.tensors(layer);
  const source = { configPath: path, config, bank, tensors, locate: ggufLocator({ files, config, tensors }) };
  // Routers are float32 there whatever the experts are, so every role keeps its own format.
  const { dtype = {}, tokenFormat } = options;
  const description = await describeSource(source, { dtype, tokenFormat });
  return await loadCached(source, description, { ...options, layer, dtype }, () => cachedGguf(files));
}

/**
 * Loads a layer from its cache if there is one that fits, else from its source, and then writes the cache. On `cpu`, experts
 * that are not resident are in the mapped cache file.
 */
async function loadCached(
  source: LayerSource & { readonly bank: ExpertRange },
  description: MoeLayerDescription,
  options: ReadLoadOptions & { readonly layer: number },
  model: () => Promise<CachedModel>,
  quantization = "",
): Promise<LoadedLayer> {
  const { device, cache: choice, signal } = options;
  const offload = offloadRule(options.offload, device, source.bank);
  const mapsExperts = offload !== undefined && device.kind === "cpu";
  if (mapsExperts) checkMapping(choice);
  const cache =
    choice &&
    (await openWeightCache(await model(), source.config, description, { ...options, cache: choice, quantization }));
  const mapped = await cache?.load(signal, offload);
  if (mapped !== undefined) return mapped;
  const parts = await loadWeights(source, device, description, options, mapsExperts ? undefined : offload);
  if (cache === undefined) return { parts };
  const cacheStatus = await cache.store(parts, signal);
  if (!mapsExperts) return { parts, cacheStatus };
  parts.dispose();
  const written = cacheStatus.state === "written" ? await cache.load(signal, offload) : undefined;
  if (written !== undefined) return { parts: written.parts, cacheStatus };
  const reason = cacheStatus.state === "written" ? cache.whyNotUsed : cacheStatus.reason;
  throw new MoeError("UNSUPPORTED_OPERATION", `offload: the cache file ${cacheStatus.path} cannot be used: ${reason}`);
}

function checkMapping(cache: CacheChoice | undefined): void {
  if (cache === undefined) throw requires("offload on cpu", "cache");
  if (cache.copy) throw cannotCombine("offload on cpu", "cache.copy");
}
