import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { WeightDTypes } from "../../layer/description/storage.js";
import type { CachedModel } from "../cache/cached_model.js";
import type { SavedStorage } from "../layer_file/saved_layer.js";
import type { CheckLayer } from "../layers_with_experts.js";
import type { LayerTensors, Locator } from "../locate/locate_layer.js";
import type { Quantization } from "../schemes/quantization.js";
import type { LayerFiles } from "./layer_files.js";

/** A model's open files: where weights are looked up, whatever they mean. */
export interface ModelFiles extends AsyncDisposable {
  /** The directory or file, as it was given. */
  readonly path: string;
  /** Why there are no weights, and what to do; empty if there are some. */
  readonly whyNoWeights: string;
  /** What a configuration says about quantised weights. */
  readonly quantization: Quantization;
  /** How weights are stored if no dtype is asked for; undefined for what {@link WeightDTypes} says. */
  readonly storage: WeightDTypes | undefined;
  /** Whether `locate` finds a weight of this name, whatever it is stored as. */
  hasWeight(name: string): boolean;
  /**
   * What the files have of a layer. Without weights, its `locate` throws BAD_CHECKPOINT.
   * @param isGiven {@link ModelFormula.isGiven}.
   */
  layer(tensors: LayerTensors, isGiven?: boolean): LayerFiles;
  /**
   * How weights are looked up that are not a layer's. Without weights, it throws BAD_CHECKPOINT.
   * @param origin what their shapes are from, for errors.
   */
  locate(origin: string): Locator;
  /**
   * What caches of packed weights are made from: the files at the time of the first call.
   * @throws INVALID_ARGUMENT if there are none for such files.
   */
  cached(): Promise<CachedModel>;
}

/** What the layers of a model compute, and how their tensors are named. */
export interface ModelFormula {
  /** The file that says so, for errors. */
  readonly path: string;
  readonly layerCount: number;
  /** The method that the configuration names for quantised weights. */
  readonly method: string | undefined;
  /** The dtype that the configuration names. */
  readonly dtype: string | undefined;
  family(layer: number): string;
  layersWithExperts(): readonly number[];
  /** Checks and returns a layer number. @throws INVALID_ARGUMENT if the model lacks the layer or it is dense. */
  readonly checkLayer: CheckLayer;
  config(layer: number): MoeLayerConfig;
  tensors(layer: number): LayerTensors;
  /** How a layer was stored that MoeLayer.save wrote. */
  readonly saved?: SavedStorage;
  /** Whether a caller says what layers compute, who may leave out parts of them. */
  readonly isGiven?: boolean;
}

export interface OpenedModel extends AsyncDisposable {
  readonly files: ModelFiles;
  readonly formula: ModelFormula;
}

/** A function that is called once, for all its callers; if it fails, again for the next. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return async () => {
    made ??= make();
    const own = made;
    try {
      return await own;
    } catch (error) {
      if (made === own) made = undefined;
      throw error;
    }
  };
}
