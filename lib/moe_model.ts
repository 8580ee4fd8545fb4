import { inspect } from "node:util";
import {
  countParameters,
  type InspectionOptions,
  inspectModel,
  type ModelInspection,
  type ParameterCounts,
} from "./checkpoint/inspect/inspect_model.js";
import { bytesInFiles, type LayerMemory, layerMemory } from "./checkpoint/inspect/layer_memory.js";
import { checkLayers } from "./checkpoint/layers_with_experts.js";
import { describeSource } from "./checkpoint/load/describe_source.js";
import {
  type LoadOptions,
  layerSource,
  loadFromOpened,
  type MethodOption,
  openedFields,
  quantMethod,
} from "./checkpoint/load/load_layer.js";
import { loadLayers, type ModelProgress } from "./checkpoint/load/load_layers.js";
import { loadModelWeight, type ModelWeightOptions, modelWeightOptions } from "./checkpoint/load/model_weight.js";
import type { OpenedModel } from "./checkpoint/opened/model_files.js";
import { openModelFiles } from "./checkpoint/opened/open_model_files.js";
import { abortSignal } from "./core/device/cancellation.js";
import { ThreadBound } from "./core/device/thread_bound.js";
import { MoeError, unexpected } from "./core/errors.js";
import { type FilePath, filePath } from "./core/files/file_path.js";
import type { WeightFormatName } from "./core/formats/weight_format.js";
import { callback, type Fields, integer, list, object, optional, text, unchecked } from "./core/input/options.js";
import { bankOption, type ExpertRange } from "./core/layer/expert_range.js";
import type { FloatDType } from "./core/tensors/dtype.js";
import type { Tensor } from "./core/tensors/tensor.js";
import type { MoeLayerConfig } from "./layer/description/config.js";
import { type WeightDTypes, weightDTypes } from "./layer/description/storage.js";
import { MoeLayer } from "./moe_layer.js";
import type { QuantizedWeight } from "./operators/experts/quantized_weight.js";

/** A layer with experts, as the model's files describe it. */
export interface ModelLayer {
  /** Its number in the model. */
  readonly layer: number;
  /** `model_type` of config.json, or for GGUF that of the same family. */
  readonly family: string;
  /** What it computes, as {@link MoeLayer.create} takes it. */
  readonly config: MoeLayerConfig;
  /** Numbers of weights. */
  readonly parameters: ParameterCounts;
}

/** Options of {@link MoeModel.memory}, as for loading. */
export interface MemoryOptions {
  /** As in {@link LoadOptions}. */
  dtype?: WeightFormatName | WeightDTypes | undefined;
  /** As in {@link LoadOptions}. */
  bank?: ExpertRange | undefined;
}

/** Options of {@link MoeModel.load}. */
export type LoadLayerOptions = Omit<LoadOptions, "layer" | "quantMethod">;

/** Options of {@link MoeModel.loadAll}. */
export interface LoadAllOptions extends Omit<LoadLayerOptions, "onProgress"> {
  /** Default: all layers with experts. */
  layers?: readonly number[] | undefined;
  /** How many layers are loaded at a time; default 2, so that one is read while another is packed. */
  concurrency?: number | undefined;
  /** Called while weights are read and after each layer, with the bytes of all layers. */
  onProgress?: ((progress: ModelProgress) => void) | undefined;
}

/** Options of {@link openModel}. */
export interface OpenModelOptions extends MethodOption {
  /** Stops the reading of configuration and headers; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

const openModelOptions = object(
  { signal: optional(abortSignal), quantMethod } satisfies Fields<OpenModelOptions>,
  "{ signal }",
);
const inspectionOptions = object(
  { layer: unchecked, tokens: optional(list(integer(1))) } satisfies Fields<InspectionOptions>,
  "{ layer: 0, tokens: [1, 64] }",
);
const memoryOptions = object(
  { dtype: optional(weightDTypes), bank: optional(bankOption) } satisfies Fields<MemoryOptions>,
  '{ dtype: "bf16" }',
);
const loadLayerOptions = object(openedFields satisfies Fields<LoadLayerOptions>, "{ device }");
const loadAllOptions = object(
  {
    ...openedFields,
    layers: optional(list(integer(0))),
    concurrency: optional(integer(1, 1024), 2),
    onProgress: optional(callback<NonNullable<LoadAllOptions["onProgress"]>>()),
  } satisfies Fields<LoadAllOptions>,
  "{ device }",
);

/**
 * A model whose files are open: which of its layers have experts, what they compute, what they take, and the layers
 * themselves. See {@link openModel}.
 */
export class MoeModel extends ThreadBound implements AsyncDisposable {
  readonly #opened: OpenedModel;
  readonly #layersWithExperts: readonly number[];
  #closed = false;

  /** @internal Use {@link openModel}. */
  constructor(opened: OpenedModel) {
    super();
    this.#opened = opened;
    this.#layersWithExperts = Object.freeze([...opened.formula.layersWithExperts()]);
  }

  /** The model's directory or file, as given to {@link openModel}. */
  get path(): string {
    return this.#opened.files.path;
  }

  /** Number of layers, with and without experts; they are numbered 0 .. layerCount - 1. */
  get layerCount(): number {
    return this.#opened.formula.layerCount;
  }

  /** The numbers of the layers with experts, ascending. */
  get layersWithExperts(): readonly number[] {
    return this.#layersWithExperts;
  }

  /** Whether there are weights, not only a config.json. */
  get hasWeights(): boolean {
    return this.#opened.files.whyNoWeights === "";
  }

  /**
   * What a layer is.
   * @throws INVALID_ARGUMENT if the model lacks the layer or it is dense; BAD_CHECKPOINT for a configuration that makes no
   * sense.
   */
  layer(layer: number): ModelLayer {
    const { formula } = this.#opened;
    const checked = formula.checkLayer(layer);
    const config = formula.config(checked);
    return {
      layer: checked,
      family: formula.family(checked),
      config,
      parameters: countParameters(config, formula.path),
    };
  }

  /**
   * Everything that the configuration and the headers of the files tell about the layers: formula, sizes, storage, memory
   * and work.
   * @throws BAD_CHECKPOINT, also for a model without MoE layers; INVALID_ARGUMENT for a layer without experts; DISPOSED.
   */
  async inspect(options: InspectionOptions = {}): Promise<ModelInspection> {
    const { layer, tokens } = inspectionOptions(options, "options");
    return await inspectModel(this.#open, {
      layer: layer === undefined ? undefined : this.#opened.formula.checkLayer(layer),
      tokens,
    });
  }

  /**
   * What a layer will take when it is loaded with these options. Only headers are read, and nothing but the configuration
   * if `dtype` is one for all roles and there are no weights.
   * @throws as {@link load}.
   */
  async memory(layer: number, options: MemoryOptions = {}): Promise<LayerMemory> {
    const { dtype, bank } = memoryOptions(options, "options");
    const { files, formula } = this.#open;
    const source = layerSource(this.#open, formula.checkLayer(layer), bank);
    const description = await describeSource(source, { dtype: dtype ?? files.storage });
    return await layerMemory(source, description);
  }

  /**
   * Loads a layer, as {@link MoeLayer.load} does.
   * @throws INVALID_ARGUMENT if the model lacks the layer or it is dense; BAD_CHECKPOINT; the signal's reason; DISPOSED.
   */
  async load(layer: number, options: LoadLayerOptions): Promise<MoeLayer> {
    const read = loadLayerOptions(options, "options");
    const { parts, cacheStatus } = await loadFromOpened(this.#open, { ...read, layer });
    return new MoeLayer(parts, cacheStatus);
  }

  /**
   * Loads all layers with experts, or some. If one fails or the signal is aborted, those that are loaded are disposed of.
   * @returns the layers by their numbers.
   * @throws as {@link load}.
   */
  async loadAll(options: LoadAllOptions): Promise<ReadonlyMap<number, MoeLayer>> {
    const { layers: given, concurrency, onProgress, signal, ...read } = loadAllOptions(options, "options");
    const { formula } = this.#open;
    const layers = checkLayers(formula, given ?? this.#layersWithExperts);
    const twice = layers.find((layer, index) => layers.indexOf(layer) !== index);
    if (twice !== undefined) throw unexpected("layers", "each layer once", `${twice} twice`);
    return await loadLayers({
      layers,
      concurrency,
      signal,
      onProgress,
      bytes: (layer) => bytesInFiles(layerSource(this.#open, layer, read.bank)),
      load: async (layer, layerSignal, report) => {
        const opened = await loadFromOpened(this.#open, { ...read, layer, signal: layerSignal, onProgress: report });
        return new MoeLayer(opened.parts, opened.cacheStatus);
      },
    });
  }

  /**
   * A weight outside of the layers with experts, such as a projection of attention, a norm or the embedding, as it is
   * stored: floats, or a matrix in any quantised format that experts may have, which {@link packExperts}, {@link linear}
   * and {@link dequantize} take too. A tensor of three dimensions is a stack of matrices [E, N, K], such as one for each
   * head, which {@link packExperts}, {@link groupedGemm} and {@link dequantize} take. Quantised ones come with outputs first,
   * whatever their order in the files.
   * @param name of its tensor in the files; of a matrix that is stored as several tensors, that of its floats, such as
   * "model.layers.0.self_attn.q_proj.weight". GGUF has names of its own, "blk.0.attn_q.weight".
   * @returns to be disposed of after use.
   * @throws BAD_CHECKPOINT if the model does not have it in this shape or in a known format; INVALID_ARGUMENT; OUT_OF_MEMORY;
   * the signal's reason; DISPOSED.
   */
  async weight(
    name: string,
    options: ModelWeightOptions,
  ): Promise<Tensor<FloatDType> | (QuantizedWeight & Disposable)> {
    const read = modelWeightOptions(options, "options");
    return await loadModelWeight(this.#open.files, text(name, "name"), read);
  }

  /**
   * Whether the files have a weight of this name, whatever it is stored as; see {@link weight}.
   * @throws INVALID_ARGUMENT, DISPOSED.
   */
  hasWeight(name: string): boolean {
    return this.#open.files.hasWeight(text(name, "name"));
  }

  /** Closes the files; loads in progress reject. Layers stay. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#opened[Symbol.asyncDispose]();
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    const { length } = this.#layersWithExperts;
    const state = this.#closed ? " (closed)" : "";
    return `MoeModel ${JSON.stringify(this.path)}, ${this.layerCount} layers, ${length} with experts${state}`;
  }

  get #open(): OpenedModel {
    if (this.#closed) throw new MoeError("DISPOSED", `${this.path}: used after close()`);
    return this.#opened;
  }
}

/**
 * Opens a model: a Hugging Face model directory (config.json and safetensors), a GGUF file (of a model in several, the
 * first), or a layer file. Reads the configuration and at most the headers of files. A directory with only a config.json
 * can be opened too, and its layers cannot be loaded.
 *
 *     await using model = await openModel("Qwen3-30B-A3B");
 *     const layers = await model.loadAll({ device, dtype: "int8", cache: true });
 *
 * @throws BAD_CHECKPOINT, which tells what is there and what to do; the signal's reason.
 */
export async function openModel(path: FilePath, options: OpenModelOptions = {}): Promise<MoeModel> {
  const place = filePath(path, "path");
  const read = openModelOptions(options, "options");
  const { signal } = read;
  signal?.throwIfAborted();
  const opened = await openModelFiles(place, read);
  try {
    const model = new MoeModel(opened);
    // Caches say what files they were made from: those that are there now, whatever takes their place later.
    if (model.hasWeights) await opened.files.cached().catch(() => {});
    signal?.throwIfAborted();
    return model;
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}
