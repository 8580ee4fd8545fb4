import { checkInteger, invalidArgument } from "../core/errors.js";

/** The layers of a model, numbered 0 .. layerCount - 1. */
export interface ModelLayers {
  readonly layerCount: number;
  hasExperts(layer: number): boolean;
}

export function layersWithExperts(model: ModelLayers): number[] {
  return Array.from({ length: model.layerCount }, (_, layer) => layer).filter((layer) => model.hasExperts(layer));
}

/** What checks a layer number, for a parameter of this name; default "layer". */
export type CheckLayer = (layer: unknown, name?: string) => number;

/** Checks and returns the numbers of an option `layers`, each as the model does. */
export function checkLayers(model: { readonly checkLayer: CheckLayer }, layers: readonly unknown[]): number[] {
  return layers.map((layer, index) => model.checkLayer(layer, `layers[${index}]`));
}

/**
 * Checks and returns a layer number.
 * @param name of the parameter.
 * @param numbering how layers are numbered, for errors, if not plainly.
 * @throws INVALID_ARGUMENT if the model lacks the layer or it is dense.
 */
export function checkLayer(model: ModelLayers, layer: unknown, name = "layer", numbering?: string): number {
  checkInteger(name, layer, 0, model.layerCount - 1);
  if (model.hasExperts(layer)) return layer;
  const others = layersWithExperts(model);
  const which = others.join(", ") + (numbering ? ` of ${numbering}` : "");
  throw invalidArgument(name, `a layer with experts (${others.length === 0 ? "this model has none" : which})`, layer);
}
