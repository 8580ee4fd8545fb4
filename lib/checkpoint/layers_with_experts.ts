import { checkInteger, invalidArgument } from "../core/errors.js";

/** The layers of a model, numbered 0 .. layerCount - 1. */
export interface ModelLayers {
  readonly layerCount: number;
  hasExperts(layer: number): boolean;
}

export function layersWithExperts(model: ModelLayers): number[] {
  return Array.from({ length: model.layerCount }, (_, layer) => layer).filter((layer) => model.hasExperts(layer));
}

/**
 * Checks and returns a layer number.
 * @param numbering how layers are numbered, for errors, if not plainly.
 * @throws INVALID_ARGUMENT if the model lacks the layer or it is dense.
 */
export function checkLayer(model: ModelLayers, layer: unknown, numbering?: string): number {
  checkInteger("layer", layer, 0, model.layerCount - 1);
  if (model.hasExperts(layer)) return layer;
  const others = layersWithExperts(model);
  const which = others.join(", ") + (numbering ? ` of ${numbering}` : "");
  throw invalidArgument(
    "layer",
    `a layer with experts (${others.length === 0 ? "this model has none" : which})`,
    layer,
  );
}
