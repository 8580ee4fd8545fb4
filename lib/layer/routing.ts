import type { TensorHandle } from "../backend.js";
import { expertChoice } from "../operators/expert_choice.js";
import type { Routing } from "../operators/gating.js";
import { dropOverflow } from "../operators/limit_capacity.js";
import { isExpertScoring, type MoeLayerDescription } from "./config.js";
import type { MoeLayer } from "./layer.js";
import type { Tokens } from "./tokens.js";

/** Whether the devices' fused forward routes by itself. */
export function routesAlone({ capacity, expertChoice }: MoeLayerDescription): boolean {
  return capacity === undefined && expertChoice === undefined;
}

/** Who takes which tokens: the choice of the layer's router within the experts' capacity, or the experts' own. */
export function routeTokens(layer: MoeLayer, x: TensorHandle, tokens: Tokens): Routing {
  const { capacity, expertChoice: size, scoring, numExperts } = layer.description;
  if (size !== undefined && isExpertScoring(scoring)) {
    using logits = routerLogits(layer, x, tokens);
    const choice = expertChoice(logits, { ...size, scoring });
    choice.tokens.dispose();
    choice.tokenWeights.dispose();
    return { ids: choice.ids, weights: choice.weights };
  }
  const routing = chooseExperts(layer, x, tokens);
  if (capacity === undefined) return routing;
  using _ids = routing.ids;
  using _weights = routing.weights;
  return dropOverflow(routing, capacity, numExperts, tokens.sequenceLength);
}

/** The router's output before any scoring. */
export function routerLogits({ device, handle, description }: MoeLayer, x: TensorHandle, { count, dtype }: Tokens) {
  const logits = device.empty([count, description.numExperts], dtype);
  handle.logits(x, logits.handle);
  return logits;
}

function chooseExperts({ device, handle, description }: MoeLayer, x: TensorHandle, { count, dtype }: Tokens): Routing {
  const shape = [count, description.topK];
  const ids = device.empty(shape, "i32");
  const weights = device.empty(shape, dtype);
  handle.route(x, ids.handle, weights.handle);
  return { ids, weights };
}
