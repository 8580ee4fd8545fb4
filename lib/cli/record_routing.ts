import type { FloatDType } from "../dtype.js";
import type { MoeLayer } from "../layer/layer.js";
import type { RouterHistory } from "../statistics/router_history.js";
import { RouterStats } from "../statistics/router_stats.js";
import type { Tensor } from "../tensor.js";

const maximumSlices = 64;

/** What the layer's router does with the tokens x [T, H], taken in slices of equal length, one call each. */
export async function recordRouting(layer: MoeLayer, x: Tensor<FloatDType>): Promise<RouterHistory> {
  using stats = new RouterStats(layer.device, { numExperts: layer.description.numExperts });
  const tokens = x.shape[0] as number;
  const length = Math.ceil(tokens / maximumSlices);
  for (let begin = 0; begin < tokens; begin += length) {
    using slice = x.rows(begin, Math.min(tokens, begin + length));
    using logits = layer.routerLogits(slice);
    const { ids, weights } = layer.route(slice);
    stats.record(logits, { ids, weights });
    ids.dispose();
    weights.dispose();
  }
  return stats.read();
}
