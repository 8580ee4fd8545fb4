import type { TensorHandle } from "../core/backend.js";
import type { Tensor } from "../core/tensor.js";
import { chooseTokens, tokensOfExpert } from "../operators/routing/expert_choice.js";
import type { Routing } from "../operators/routing/gating.js";
import { chooseByGroups } from "../operators/routing/hierarchical_gating.js";
import { dropOverflow, sharedCapacity } from "../operators/routing/limit_capacity.js";
import { isExpertScoring, type MoeLayerDescription } from "./description/config.js";
import type { MoeLayer } from "./layer.js";
import type { Tokens } from "./tokens.js";
import { addNoise, type GateLogits, type GateName, jitterInput, type NoiseSource } from "./training.js";

/** Whether the devices' fused forward routes by itself. */
export function routesAlone({ capacity, expertChoice, hierarchy }: MoeLayerDescription): boolean {
  return capacity === undefined && expertChoice === undefined && hierarchy === undefined;
}

/** How many choices experts take of tokens at most, which devices need not then have memory for all. */
export function mostChoices(description: MoeLayerDescription, { count, sequenceLength }: Tokens): number {
  const { capacity, expertChoice: size, numExperts, topK } = description;
  if (size !== undefined) return numExperts * tokensOfExpert(size, count, numExperts);
  if (capacity === undefined) return count * topK;
  const shared = sharedCapacity(capacity, count, sequenceLength, topK, numExperts);
  const sequences = shared.length === 0 ? 0 : count / shared.length;
  return Math.min(count * topK, sequences * numExperts * shared.capacity);
}

/**
 * Who takes which tokens: the choice of the layer's router within the experts' capacity, or the experts' own; in training
 * with the layer's noise.
 * @param out where to write; default new tensors.
 */
export function routeTokens(
  layer: MoeLayer,
  x: TensorHandle,
  tokens: Tokens,
  training?: NoiseSource,
  out?: Routing,
): Routing {
  const { routerJitter } = layer.description;
  if (routerJitter === undefined || training?.seed === undefined) return routeInput(layer, x, tokens, training, out);
  using jittered = jitterInput(layer, x, tokens, training.seed, routerJitter);
  return routeInput(layer, jittered.handle, tokens, undefined, out);
}

function routeInput(
  layer: MoeLayer,
  x: TensorHandle,
  tokens: Tokens,
  training: NoiseSource | undefined,
  out: Routing | undefined,
): Routing {
  const { capacity, expertChoice: size, scoring, numExperts } = layer.description;
  if (size !== undefined && isExpertScoring(scoring)) {
    using logits = routingLogits(layer, x, tokens, training, "experts");
    const choice = chooseTokens(logits, size, scoring, out);
    choice.tokens.dispose();
    choice.tokenWeights.dispose();
    return { ids: choice.ids, weights: choice.weights };
  }
  if (capacity === undefined) return chooseExperts(layer, x, tokens, training, out);
  const routing = chooseExperts(layer, x, tokens, training);
  using _ids = routing.ids;
  using _weights = routing.weights;
  return dropOverflow(routing, capacity, numExperts, tokens.sequenceLength, out);
}

function chooseExperts(
  layer: MoeLayer,
  x: TensorHandle,
  tokens: Tokens,
  training: NoiseSource | undefined,
  out?: Routing,
): Routing {
  const { device, handle, description } = layer;
  const { hierarchy } = description;
  if (hierarchy !== undefined) {
    using groupLogits = routingLogits(layer, x, tokens, training, "groups");
    using logits = routingLogits(layer, x, tokens, training, "experts");
    return chooseByGroups(groupLogits, logits, hierarchy.groups, hierarchy.experts, out);
  }
  const routing = out ?? emptyRouting(layer, tokens);
  const { ids, weights } = routing;
  if (training === undefined) handle.route(x, ids.handle, weights.handle);
  else {
    using logits = routingLogits(layer, x, tokens, training, "experts");
    device.backend.gating({
      logits: logits.handle,
      ids: ids.handle,
      weights: weights.handle,
      rule: description,
    });
  }
  return routing;
}

/** Memory for a layer's routing of tokens. */
export function emptyRouting({ device, description }: MoeLayer, { count, dtype }: Tokens): Routing {
  const shape = [count, description.topK];
  return { ids: device.empty(shape, "i32"), weights: device.empty(shape, dtype) };
}

/** What a gate chooses by: its logits, in training with the layer's noise where it has some. */
function routingLogits(
  layer: MoeLayer,
  x: TensorHandle,
  tokens: Tokens,
  training: NoiseSource | undefined,
  gate: GateName,
): Tensor<"f32"> {
  if (layer.description.noisy === undefined || training === undefined) return cleanLogits(layer, x, tokens, gate);
  const { clean, logits, deviation } = gateLogits(layer, x, tokens, training, gate);
  clean.dispose();
  deviation.dispose();
  return logits;
}

/** The logits of a gate of a layer with noisy gating, with their noise and without. */
export function gateLogits(
  layer: MoeLayer,
  x: TensorHandle,
  tokens: Tokens,
  training: NoiseSource,
  gate: GateName,
): GateLogits {
  const clean = cleanLogits(layer, x, tokens, gate);
  return { clean, ...addNoise(layer, x, clean, training, gate) };
}

/** A gate's output before any scoring: [T, E], of the groups [T, G]. */
export function cleanLogits(layer: MoeLayer, x: TensorHandle, { count, dtype }: Tokens, gate: GateName): Tensor<"f32"> {
  const { device, handle, description, extraRouters } = layer;
  const outputs = gate === "experts" ? description.numExperts : description.hierarchy?.numGroups;
  const logits = device.empty([count, outputs as number], dtype);
  if (gate === "experts") handle.logits(x, logits.handle);
  else {
    const { groupRouter, groupRouterBias } = extraRouters;
    device.backend.routerProjection({
      x,
      weight: (groupRouter as Tensor).handle,
      bias: groupRouterBias?.handle,
      logits: logits.handle,
    });
  }
  return logits;
}
