import type { MoeLayer } from "../../moe_layer.js";
import type { RouterHistory } from "../../statistics/router_history.js";
import { RouterStats } from "../../statistics/router_stats.js";
import type { RunTokens } from "./run_tokens.js";

const maximumSlices = 64;

/** Records what a layer's router does with tokens, in slices that count as one call each. */
export async function recordRouting(layer: MoeLayer, { read, routeOptions }: RunTokens): Promise<RouterHistory> {
  using stats = new RouterStats(layer.device, { numExperts: layer.description.numExperts });
  using logits = layer.routerLogits(read);
  const routing = layer.route(read, routeOptions);
  using ids = routing.ids;
  using weights = routing.weights;
  const tokens = ids.shape[0] as number;
  const length = Math.ceil(tokens / maximumSlices);
  for (let begin = 0; begin < tokens; begin += length) {
    const end = Math.min(tokens, begin + length);
    using sliceLogits = logits.rows(begin, end);
    using sliceIds = ids.rows(begin, end);
    using sliceWeights = weights.rows(begin, end);
    stats.record(sliceLogits, { ids: sliceIds, weights: sliceWeights });
  }
  return stats.read();
}
