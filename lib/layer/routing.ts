import type { TensorHandle } from "../backend.js";
import { expertChoice } from "../operators/expert_choice.js";
import type { Routing } from "../operators/gating.js";
import { dropOverflow } from "../operators/limit_capacity.js";
import type { Tensor } from "../tensor.js";
import { isExpertScoring, type MoeLayerDescription } from "./config.js";
import type { MoeLayer } from "./layer.js";
import type { Tokens } from "./tokens.js";
import { addNoise, gateLogits, jitterInput, type Training } from "./training.js";

/** Whether the devices' fused forward routes by itself. */
export function routesAlone({ capacity, expertChoice }: MoeLayerDescription): boolean {
  return capacity === undefined && expertChoice === undefined;
}

/**
 * Who takes which tokens: the choice of the layer's router within the experts' capacity, or the experts' own; in training
 * with the layer's noise.
 */
export function routeTokens(layer: MoeLayer, x: TensorHandle, tokens: Tokens, training?: Training): Routing {
  const { routerJitter } = layer.description;
  if (routerJitter === undefined || training?.seed === undefined) return routeInput(layer, x, tokens, training);
  using jittered = jitterInput(layer, x, tokens, training.seed, routerJitter);
  return routeInput(layer, jittered.handle, tokens);
}

function routeInput(layer: MoeLayer, x: TensorHandle, tokens: Tokens, training?: Training): Routing {
  const { capacity, expertChoice: size, scoring, numExperts } = layer.description;
  if (size !== undefined && isExpertScoring(scoring)) {
    using logits = routingLogits(layer, x, tokens, training);
    const choice = expertChoice(logits, { ...size, scoring });
    choice.tokens.dispose();
    choice.tokenWeights.dispose();
    return { ids: choice.ids, weights: choice.weights };
  }
  const routing = chooseExperts(layer, x, tokens, training);
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

/** The same with the noise of training where the layer has some. */
function routingLogits(layer: MoeLayer, x: TensorHandle, tokens: Tokens, training?: Training): Tensor<"f32"> {
  const clean = routerLogits(layer, x, tokens);
  const { noisy } = layer.description;
  if (noisy === undefined || training === undefined) return clean;
  using _clean = clean;
  const { logits, deviation } = addNoise(layer, x, clean, training, noisy);
  deviation.dispose();
  return logits;
}

function chooseExperts(layer: MoeLayer, x: TensorHandle, tokens: Tokens, training?: Training): Routing {
  if (training !== undefined) {
    using logits = routingLogits(layer, x, tokens, training);
    return gateLogits(layer, logits);
  }
  const { device, handle, description } = layer;
  const shape = [tokens.count, description.topK];
  const ids = device.empty(shape, "i32");
  const weights = device.empty(shape, tokens.dtype);
  handle.route(x, ids.handle, weights.handle);
  return { ids, weights };
}
