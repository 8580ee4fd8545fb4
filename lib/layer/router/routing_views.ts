import type { Routing } from "../../operators/routing/gating.js";

/** Views of a routing's tensors, which live until both these and the tensors are disposed of. */
export function routingViews({ ids, weights }: Routing): Routing {
  return { ids: ids.reshape(ids.shape), weights: weights.reshape(weights.shape) };
}
