import type { StridedMatrix } from "../../core/backend.js";
import type { FloatDType } from "../../core/dtype.js";
import { cannotCombine, invalidArgument, requires } from "../../core/errors.js";
import type { Shape } from "../../core/shape.js";
import { freeWeight, type WeightMatrix } from "../../core/weight_format.js";
import { checkSelectionBias } from "../../operators/routing/gating_options.js";
import type { SharedExpertConfig } from "../description/config.js";
import type { LayerWeights, MoeLayer } from "../layer.js";
import { checkExpert, type ExpertWeights, expertShare, mapExpert, stackedExpert } from "./expert_weights.js";
import { checkExtraRouters, type ExtraRouterRole, extraRouters } from "./extra_routers.js";
import { checkWeight, type Weight, wholeMatrix, wholeWeight } from "./weight_layout.js";

// Every function checks its weights and enqueues their copies into the layer's own memory.

/** A layer's weights as read, and the width of its shared expert. */
type GivenWeights = Readonly<
  Record<Exclude<keyof LayerWeights, "experts" | "router" | "shared">, Weight | undefined>
> & {
  readonly router: Weight;
  readonly experts: readonly ExpertWeights[] | ExpertWeights;
  readonly shared: ExpertWeights | undefined;
  readonly sharedExpert: Pick<SharedExpertConfig, "intermediateSize"> | undefined;
};

/** Sets all weights of a layer. */
export function setWeights(layer: MoeLayer, options: GivenWeights): void {
  setRouter(layer, options.router, options.routerBias);
  if (options.selectionBias !== undefined) setSelectionBias(layer, options.selectionBias);
  const { experts } = options;
  if (Array.isArray(experts)) {
    experts.forEach((expert, index) => {
      setExpert(layer, index, expert);
    });
  } else {
    setStackedExperts(layer, experts as ExpertWeights);
  }
  setShared(layer, options);
  checkExtraRouters(layer.description, options);
  for (const { role } of extraRouters(layer.description)) {
    const weight = options[role];
    if (weight !== undefined) setExtraRouter(layer, role, weight);
  }
}

/** The router's weight [E, H] and bias [E]. */
export function setRouter(layer: MoeLayer, weight: Weight, bias?: Weight): void {
  const { numExperts, hiddenSize } = layer.description;
  setLinear(layer, "router", [numExperts, hiddenSize], weight, bias, (matrix, vector) => {
    layer.handle.setRouter(matrix, vector);
  });
}

/** The bias [E] of the selection. */
export function setSelectionBias(layer: MoeLayer, bias: Weight): void {
  const { numExperts, scoring, expertChoice, noisy, hierarchy } = layer.description;
  for (const [name, other] of Object.entries({ expertChoice, noisy, hierarchy })) {
    if (other !== undefined) throw cannotCombine("selectionBias", name);
  }
  checkWeight("selectionBias", bias, [numExperts], layer.device);
  checkSelectionBias(bias, scoring);
  withMatrices({ bias: wholeMatrix(bias, [numExperts]) }, (matrices) => {
    layer.handle.setSelectionBias(matrices.bias);
  });
}

/** The weights of one expert. */
export function setExpert(layer: MoeLayer, expert: number, weights: ExpertWeights): void {
  const { device, description } = layer;
  checkExpert(`experts[${expert}]`, weights, description, description.intermediateSize, device);
  setShares(layer, expert, weights, description.intermediateSize);
}

/** The weights of the shared expert, whose width decides between how many experts they are divided. */
export function setSharedExpert(layer: MoeLayer, weights: ExpertWeights, width: number): void {
  checkExpert("shared", weights, layer.description, width, layer.device);
  setShares(layer, layer.description.numExperts, weights, width);
}

/** The shared expert's gate. */
export function setSharedGate(layer: MoeLayer, weight: Weight, bias?: Weight): void {
  const { hiddenSize, sharedGate } = layer.description;
  const rows = sharedGate === "softmax" ? 2 : 1;
  setLinear(layer, "sharedGate", [rows, hiddenSize], weight, bias, (matrix, vector) => {
    layer.handle.setSharedGate(matrix, vector);
  });
}

/** The weight of a router beside the layer's own, which the layer keeps itself. */
export function setExtraRouter(layer: MoeLayer, role: ExtraRouterRole, weight: Weight): void {
  const { device, description } = layer;
  const shape = extraRouters(description).find((router) => router.role === role)?.shape as Shape;
  checkWeight(role, weight, shape, device);
  const copy = device.empty(shape, description.weightDType as FloatDType);
  layer.extraRouters[role] = copy;
  withMatrices({ matrix: wholeMatrix(weight, shape) }, ({ matrix }) => {
    device.backend.copyMatrix({ source: matrix, target: copy.handle });
  });
}

function setStackedExperts(layer: MoeLayer, stacked: ExpertWeights): void {
  const { device, description } = layer;
  const { numExperts, hiddenSize, intermediateSize } = description;
  checkExpert("experts", stacked, description, intermediateSize, device, numExperts);
  for (let expert = 0; expert < numExperts; expert++) {
    const weights = stackedExpert(stacked, expert, hiddenSize, intermediateSize);
    try {
      setShares(layer, expert, weights, intermediateSize);
    } finally {
      mapExpert(weights, ({ tensor }) => tensor.dispose());
    }
  }
}

function setShared(layer: MoeLayer, { sharedExpert, shared, sharedGate, sharedGateBias }: GivenWeights): void {
  const needs = { shared: sharedExpert !== undefined, sharedGate: layer.description.sharedGate !== "none" };
  for (const [name, value] of [
    ["shared", shared],
    ["sharedGate", sharedGate],
  ] as const) {
    if (needs[name] === (value !== undefined)) continue;
    if (needs[name]) throw invalidArgument(name, "tensors for sharedExpert", value);
    throw requires(name, name === "shared" ? "sharedExpert" : "sharedExpert.gate");
  }
  if (sharedExpert && shared) setSharedExpert(layer, shared, sharedExpert.intermediateSize);
  if (sharedGate) setSharedGate(layer, sharedGate, sharedGateBias);
}

/** Divides an expert of `width` between experts of the layer's, the first of which is `expert`. */
function setShares(layer: MoeLayer, expert: number, weights: ExpertWeights, width: number): void {
  const { description } = layer;
  for (let first = 0, index = expert; first < width; first += description.intermediateSize, index++) {
    withMatrices({ ...expertShare(weights, description, width, first) }, (matrices) => {
      layer.handle.setExpert(index, matrices);
    });
  }
}

/** A linear map's weight of `shape` [outputs, inputs] and its bias [outputs]. */
function setLinear(
  layer: MoeLayer,
  name: string,
  shape: Shape,
  weight: Weight,
  bias: Weight | undefined,
  set: (matrix: WeightMatrix, vector: StridedMatrix | null) => void,
): void {
  const vector = shape.slice(0, 1);
  checkWeight(name, weight, shape, layer.device);
  if (bias !== undefined) checkWeight(`${name}Bias`, bias, vector, layer.device);
  const matrices = { weight: wholeWeight(weight, shape), bias: bias ? wholeMatrix(bias, vector) : null };
  withMatrices(matrices, (given) => set(given.weight, given.bias));
}

function withMatrices<M extends Record<string, StridedMatrix | WeightMatrix | null>>(
  matrices: M,
  set: (matrices: M) => void,
): void {
  try {
    set(matrices);
  } finally {
    for (const matrix of Object.values(matrices)) {
      if (matrix === null) continue;
      if ("codes" in matrix) freeWeight(matrix);
      else matrix.handle.free();
    }
  }
}
