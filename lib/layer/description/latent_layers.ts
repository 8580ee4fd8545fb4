import type { MoeLayerDescription } from "./config.js";
import type { Latent } from "./latent.js";

// A layer with `latent` is two layers of a device: one of the width of the tokens, and one of that of their projection.

/** The routed experts of a layer with `latent`, as a layer of the width of their tokens. */
export function routedLayer({ latent, formats, ...description }: MoeLayerDescription): MoeLayerDescription {
  const { shared: _, latentDown: _down, latentUp: _up, ...routed } = formats;
  const hiddenSize = (latent as Latent).size;
  return { ...description, latent: undefined, hiddenSize, sharedExperts: 0, sharedGate: "none", formats: routed };
}

/** What of a layer with `latent` reads the tokens as they are: the router and the shared expert, without other experts. */
export function layerOfTokens({ bank, formats, ...description }: MoeLayerDescription): MoeLayerDescription {
  const { shared, ...others } = formats;
  return { ...description, bank: { first: bank.first, count: 0 }, formats: { ...others, ...shared } };
}

/** The layer of a device whose packed weights a cache file holds: with `latent`, that of the routed experts. */
export function cachedLayer(description: MoeLayerDescription): MoeLayerDescription {
  return description.latent === undefined ? description : routedLayer(description);
}
