import { abortSignal } from "../../core/device/cancellation.js";
import { type Device, openedDevice } from "../../core/device/device.js";
import { cannotCombine, MoeError, requires, unexpected } from "../../core/errors.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import type { TokenFormat } from "../../core/formats/token_format.js";
import type { WeightFormatName } from "../../core/formats/weight_format.js";
import {
  callback,
  choice,
  type Fields,
  object,
  optional,
  type Read,
  type Reader,
  unchecked,
} from "../../core/input/options.js";
import { bankOption, type ExpertRange } from "../../core/layer/expert_range.js";
import { layerConfig, type MoeLayerConfig, type MoeLayerDescription } from "../../layer/description/config.js";
import { checkedBank } from "../../layer/description/identity_experts.js";
import { checkNormalisedBank } from "../../layer/description/latent.js";
import { type WeightDTypes, weightDTypes } from "../../layer/description/storage.js";
import type { LayerParts } from "../../layer/layer_parts.js";
import { type OffloadOptions, offloadOption, offloadRule } from "../../layer/offload.js";
import { type QuantizeOptions, quantizeOptions } from "../../operators/formats/quantize.js";
import { type CacheChoice, type CacheOptions, cacheOption } from "../cache/cache_option.js";
import { type CacheStatus, openWeightCache } from "../cache/weight_cache.js";
import type { LayerSource, LayerTensors } from "../locate/locate_layer.js";
import type { GivenLayer } from "../opened/given_layer.js";
import type { ModelFiles, OpenedModel } from "../opened/model_files.js";
import { openModelFiles } from "../opened/open_model_files.js";
import { loadedTokenFormats } from "../schemes/checkpoint_tokens.js";
import { type QuantMethod, quantMethods } from "../schemes/quantization.js";
import { type LayerTensorNames, layerTensorNames } from "../tensor_names.js";
import { describeSource } from "./describe_source.js";
import { loadUncached, loadWeights } from "./load_weights.js";
import type { Progress } from "./matrix_reader.js";

/** How weights are stored on the device when they are loaded, and which. */
export interface WeightOptions {
  /**
   * How the weights are stored on the device: a dtype for all, a quantised format for the experts' matrices (see
   * {@link WeightFormatName}), or one for each role. Default: every role as it is in the checkpoint; but
   * the router's dtype for all where only some of the weights are f64 and none is quantised.
   */
  dtype?: WeightFormatName | WeightDTypes | undefined;
  /** How matrices are quantised that `dtype` asks to be; see {@link quantize}. */
  quantize?: QuantizeOptions | undefined;
  /**
   * Hold only these experts, and read only their bytes. `forward` then returns their share of the output, weighted by
   * the whole layer's routing, so the outputs of a layer's banks add up to the layer's output. The shared expert
   * belongs to the bank with `first: 0`, and so do `identityExperts`. Default: all experts.
   */
  bank?: ExpertRange | undefined;
  /**
   * Round tokens to 8 bits where they are multiplied by quantised weights; see {@link TokenFormat}. `checkpoint` does what
   * the checkpoint's configuration says: `input_activations` of compressed-tensors, `activation_scheme` of fp8,
   * `quant_algo` of ModelOpt, `input_tensors` of Quark, `act_bits` of AutoRound; none if it says nothing. Default none; of
   * a layer that MoeLayer.save wrote, what it did.
   */
  tokenFormat?: TokenFormat | "checkpoint" | undefined;
  /**
   * Keep only some of the experts in the device's memory. On `cpu` the others are in the mapped cache file, so `cache` is
   * needed. Default: all are there.
   */
  offload?: OffloadOptions | undefined;
  /** Called while weights are read. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** How the weights of a model directory are read. */
export interface MethodOption {
  /**
   * The method that quantised the weights, in place of the `quant_method` of the model's configuration: for a name that is not known of
   * files that a known method's are like. Files without such a configuration are read as they are. Default: as the
   * configuration says.
   */
  quantMethod?: QuantMethod | undefined;
}

/** Options of {@link MoeLayer.load} for a layer of a model. */
export interface LoadOptions extends WeightOptions, MethodOption {
  /**
   * Number of the layer whose MoE block is loaded, from 0. In encoder-decoder models the encoder's layers come first,
   * then the decoder's.
   */
  layer: number;
  /** Where the weights go. */
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
  cache?: boolean | FilePath | CacheOptions | undefined;
}

/** Options for loading a layer file, NAME.safetensors, which holds a single layer. */
export interface LoadFileOptions extends WeightOptions {
  /** Where the weights go. */
  device: Device;
}

/** Options for loading a layer of a model whose family is not known, or that does not say what it computes. */
export interface LoadGivenOptions extends WeightOptions, MethodOption {
  /** What the layer computes. */
  config: MoeLayerConfig;
  /** The names of its tensors, in which `{layer}` stands for `layer` and `{e}` for an expert's number. */
  tensors: LayerTensorNames;
  /** Number of the layer, if there is a `{layer}` in the names. */
  layer?: number | undefined;
  /** Where the weights go. */
  device: Device;
  /** As in {@link LoadOptions}. */
  cache?: boolean | FilePath | CacheOptions | undefined;
}

/** The options for loading a layer of an opened model. */
export const openedFields = {
  device: openedDevice,
  dtype: optional(weightDTypes),
  quantize: optional(quantizeOptions),
  bank: optional(bankOption),
  tokenFormat: optional(choice(loadedTokenFormats)),
  onProgress: optional(callback<NonNullable<WeightOptions["onProgress"]>>()),
  signal: optional(abortSignal),
  cache: cacheOption,
  offload: optional(offloadOption),
} satisfies Fields<Omit<LoadOptions, "layer" | "quantMethod">>;

export const quantMethod = optional(choice(quantMethods));

const loadOptions = object(
  {
    ...openedFields,
    layer: unchecked,
    quantMethod,
    config: optional(layerConfig as Reader<MoeLayerConfig>),
    tensors: optional(layerTensorNames),
  } satisfies Fields<LoadOptions & LoadGivenOptions>,
  "{ layer: 0, device }",
);

/** The options for loading a layer, as read. */
export type ReadOptions = Omit<Read<typeof loadOptions>, "config" | "tensors" | "quantMethod">;

/** A layer's parts, and the outcome of the cache if one was asked for. */
export interface LoadedLayer {
  readonly parts: LayerParts;
  readonly cacheStatus?: CacheStatus;
}

/**
 * Loads the MoE block of one layer from a Hugging Face model directory: `model_type` in config.json names the family,
 * and the family's file in `families/` says what the fields mean and how tensors are named. Or from a GGUF file, NAME.gguf,
 * by its metadata; of a model in several files, the first. Or loads the layer of a layer file, NAME.safetensors; see
 * {@link openLayerFile}. With `config` and `tensors`, from any of these, whatever it says of itself.
 * @throws INVALID_ARGUMENT for a layer that the model does not have or that is dense; BAD_CHECKPOINT;
 * UNSUPPORTED_OPERATION for a layer file whose formula is not supported.
 */
export async function loadLayer(
  path: FilePath,
  options: LoadOptions | LoadFileOptions | LoadGivenOptions,
): Promise<LoadedLayer> {
  const model = filePath(path, "path");
  const { config, tensors, quantMethod, ...read } = loadOptions(options, "options");
  const given = givenLayer(config, tensors);
  await using opened = await openModelFiles(model, { signal: read.signal, quantMethod, given });
  return await loadFromOpened(opened, read);
}

/** Loads a layer of a model whose files are open; throws as {@link loadLayer}. */
export async function loadFromOpened({ files, formula }: OpenedModel, options: ReadOptions): Promise<LoadedLayer> {
  const layer = formula.checkLayer(options.layer);
  const source = layerSource({ files, formula }, layer, options.bank);
  const read = { ...options, layer, dtype: options.dtype ?? files.storage };
  try {
    const description = await describeSource(source, read, files.quantization);
    return await loadCached(source, description, read, files);
  } catch (error) {
    throw files.quantization.explain(error);
  }
}

/** Where a layer comes from, of a model whose files are open. @throws INVALID_ARGUMENT for a bank that it does not have. */
export function layerSource(
  { files, formula }: Pick<OpenedModel, "files" | "formula">,
  layer: number,
  experts?: ExpertRange,
): LayerSource & { readonly bank: ExpertRange } {
  const config = formula.config(layer);
  const { saved } = formula;
  const bank = checkedBank(experts ?? saved?.bank, config);
  if (saved) checkHeld(bank, saved.bank);
  checkNormalisedBank(config.latent, config.numExperts, bank);
  const tensors = formula.tensors(layer);
  const { locate, hasInputTensor } = files.layer(tensors, formula.isGiven);
  return {
    configPath: formula.path,
    config,
    bank,
    tensors,
    locate,
    hasInputTensor,
    saved,
  };
}

function checkHeld(bank: ExpertRange, { first, count }: ExpertRange): void {
  if (bank.first >= first && bank.first + bank.count <= first + count) return;
  const expected = `experts within ${first} to ${first + count - 1}, which the file has`;
  throw unexpected("bank", expected, `${bank.first} to ${bank.first + bank.count - 1}`);
}

function givenLayer(config: MoeLayerConfig | undefined, tensors: LayerTensors | undefined): GivenLayer | undefined {
  if (config === undefined && tensors === undefined) return undefined;
  if (config === undefined) throw requires("tensors", "config");
  if (tensors === undefined) throw requires("config", "tensors");
  return { config, tensors };
}

/**
 * Loads a layer from its cache if there is one that fits, else from its source, and then writes the cache. On `cpu`, experts
 * that are not resident are in the mapped cache file.
 */
async function loadCached(
  source: LayerSource & { readonly bank: ExpertRange },
  description: MoeLayerDescription,
  options: ReadOptions & { readonly layer: number },
  { cached, quantization }: ModelFiles,
): Promise<LoadedLayer> {
  const { device, cache: choice, signal } = options;
  const offload = offloadRule(options.offload, device, source.bank);
  const mapsExperts = offload !== undefined && device.kind === "cpu";
  if (mapsExperts) checkMapping(choice);
  const cache =
    choice &&
    (await openWeightCache(cached, source, description, {
      ...options,
      cache: choice,
      quantization: quantization.text,
    }));
  const fromCache = async () => {
    const mapped = await cache?.load(signal, offload);
    if (mapped !== undefined) await addUncached(source, mapped.parts, signal);
    return mapped;
  };
  const mapped = await fromCache();
  if (mapped !== undefined) return mapped;
  const parts = await loadWeights(source, device, description, options, mapsExperts ? undefined : offload);
  if (cache === undefined) return { parts };
  const cacheStatus = await cache.store(parts, signal);
  if (!mapsExperts) return { parts, cacheStatus };
  parts.dispose();
  const written = cacheStatus.state === "written" ? await fromCache() : undefined;
  if (written !== undefined) return { parts: written.parts, cacheStatus };
  const reason = cacheStatus.state === "written" ? cache.whyNotUsed : cacheStatus.reason;
  throw new MoeError("UNSUPPORTED_OPERATION", `offload: the cache cannot be used: ${reason}`);
}

/** Reads what a cache file does not have. */
async function addUncached(source: LayerSource, parts: LayerParts, signal: AbortSignal | undefined): Promise<void> {
  try {
    await loadUncached(source, parts, { signal });
  } catch (error) {
    parts.dispose();
    throw error;
  }
}

function checkMapping(cache: CacheChoice | undefined): void {
  if (cache === undefined) {
    const remedy = "give cache: true, or a folder; the layer of a layer file has no cache, and so no offload here";
    throw new MoeError(
      "INVALID_ARGUMENT",
      `offload on cpu requires cache, as the experts are mapped from its file: ${remedy}`,
    );
  }
  if (cache.copy) throw cannotCombine("offload on cpu", "cache.copy");
}
