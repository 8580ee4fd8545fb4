import { checkInteger, requires } from "../../core/errors.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import { maximumLayers } from "../families/family.js";
import type { LayerTensors, NamedWeight } from "../locate/locate_layer.js";
import { checkTensorNames } from "../tensor_names.js";
import type { ModelFormula } from "./model_files.js";

/** What a layer computes and how its tensors are named, given in place of what a checkpoint says. */
export interface GivenLayer {
  readonly config: MoeLayerConfig;
  /** In the names, `{layer}` stands for the layer's number. */
  readonly tensors: LayerTensors;
}

/**
 * What a caller says of a model's layers.
 * @param path of the model, for errors.
 * @throws INVALID_ARGUMENT for names that do not go with the formula.
 */
export function givenFormula(path: string, { config, tensors }: GivenLayer): ModelFormula {
  checkTensorNames(tensors, config, "tensors");
  const numbered = JSON.stringify(tensors).includes("{layer}");
  return {
    path,
    isGiven: true,
    layerCount: maximumLayers,
    method: undefined,
    dtype: undefined,
    family: () => "given",
    layersWithExperts: () => [],
    checkLayer: (layer, name = "layer") => {
      if (!numbered && layer !== undefined) throw requires(name, "{layer} in the names of tensors");
      checkInteger(name, numbered ? layer : 0, 0, maximumLayers - 1);
      return (layer ?? 0) as number;
    },
    config: () => config,
    tensors: (layer) => ofLayer(tensors, layer),
  };
}

/** The names of one layer. */
function ofLayer(tensors: LayerTensors, layer: number): LayerTensors {
  const rename = (value: NamedWeight | ExpertWeights<NamedWeight, NamedWeight>): object =>
    Object.fromEntries(
      Object.entries(value).map(([key, given]) => {
        if (typeof given === "object") return [key, rename(given)];
        return [key, key === "name" ? String(given).replaceAll("{layer}", String(layer)) : given];
      }),
    );
  return rename(tensors as unknown as NamedWeight) as LayerTensors;
}
