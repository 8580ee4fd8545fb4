import type { ConfigFields } from "../config_fields.js";
import type { Family } from "./family.js";

/** A layer of an encoder-decoder model. */
export interface Place {
  readonly stack: "encoder" | "decoder";
  /** Index within its stack. */
  readonly index: number;
}

/** How the layers of encoder-decoder models are numbered: the encoder's first, then the decoder's. */
export interface EncoderDecoder extends Required<Pick<Family, "numbering" | "layerCount" | "prefix">> {
  place(fields: ConfigFields, layer: number): Place;
}

/** @param prefix of the names of a layer's tensors. */
export function encoderDecoder(
  encoderLayers: Family["layerCount"],
  decoderLayers: Family["layerCount"],
  prefix: (place: Place) => string,
): EncoderDecoder {
  const place = (fields: ConfigFields, layer: number): Place => {
    const encoder = encoderLayers(fields);
    return layer < encoder ? { stack: "encoder", index: layer } : { stack: "decoder", index: layer - encoder };
  };
  return {
    numbering: "the encoder's layers, then the decoder's",
    layerCount: (fields) => encoderLayers(fields) + decoderLayers(fields),
    prefix: (fields, layer) => prefix(place(fields, layer)),
    place,
  };
}
