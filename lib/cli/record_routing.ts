import type { FloatDType } from "../core/dtype.js";
import type { Tensor } from "../core/tensor.js";
import type { MoeLayer } from "../moe_layer.js";
import type { RouterHistory } from "../statistics/router_history.js";
import { RouterStats } from "../statistics/router_stats.js";

const maximumSlices = 64;

/** Records what a layer's router does with the tokens x [T, H] or [B, S, H] that it reads, in slices that count as one call each. */
export async function recordRouting(layer: MoeLayer, x: Tensor<FloatDType>): Promise<RouterHistory> {
  using stats = new RouterStats(layer.device, { numExperts: layer.description.numExperts });
  using logits = layer.routerLogits(x);
  const routing = layer.route(x);
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
