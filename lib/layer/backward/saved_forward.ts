import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { combine } from "../../operators/experts/combine.js";
import type { Routing } from "../../operators/routing/gating.js";
import { routerScores } from "../../operators/statistics/router_scores.js";
import type { Norm } from "../block.js";
import type { DeviceLayer } from "../device_layer.js";
import { fusedExperts, type LatentExperts, latentForward } from "../latent_forward.js";
import type { LayerParts } from "../layer_parts.js";
import { routingViews } from "../router/routing_views.js";
import { readFrom, type Tokens } from "../router/tokens.js";
import type { NoiseSource } from "../router/training.js";
import { Temporaries } from "../temporaries.js";
import type { LatentProjections } from "../weights/latent_projections.js";
import { LayerState, movedToHost, type SavedPass } from "./layer_state.js";
import { activatedRows, type InnerRows, innerRows, outputRows, passRows } from "./rows.js";
import { ones } from "./sums.js";

/** A forward whose results a backward pass needs. */
export interface ForwardToSave {
  /** The layer's tokens, after the norm if there is one. */
  readonly x: Tensor<FloatDType>;
  /** The tokens as they were given. */
  readonly tokensGiven: Tensor<FloatDType>;
  /** What the router reads instead of x, if it reads other tokens. */
  readonly routerInput: Tensor<FloatDType> | undefined;
  readonly norm: Norm | undefined;
  readonly residual: Tensor<FloatDType> | undefined;
  readonly y: Tensor<FloatDType>;
  readonly tokens: Tokens;
  readonly routing: Routing | undefined;
  readonly training: NoiseSource | undefined;
  readonly recompute: boolean;
  readonly offload: boolean;
}

/** Writes y, and keeps what {@link LayerState} says. */
export function savedForward(parts: LayerParts, { recompute, offload, training, ...given }: ForwardToSave): LayerState {
  const { onDevice, routed, projections, router, bank } = parts;
  const { tokens } = given;
  for (const layer of parts.expertLayers) parts.backwardMatrices(layer);
  const size = [tokens.count, onDevice.description.hiddenSize] as const;
  using y = given.y.reshape(size);
  using residual = given.residual?.reshape(size);
  const x = given.x.reshape(size);
  const routerInput = given.routerInput?.reshape(size);
  const read = routerInput ?? x;
  const routing =
    given.routing === undefined
      ? router.route(read.handle, readFrom(tokens, read), training)
      : routingViews(given.routing);
  const pass = {
    layer: onDevice,
    version: onDevice.record.version,
    shape: given.x.shape,
    x,
    routerInput,
    norm: given.norm && {
      ...given.norm,
      weight: viewOf(given.norm.weight),
      tokens: given.tokensGiven.reshape(size),
    },
    addsTokens: given.residual === given.tokensGiven,
    tokens: { ...tokens, ids: viewOf(tokens.ids), expertIds: viewOf(tokens.expertIds) },
    training: training && { ...training, noise: viewOf(training.noise), groupNoise: viewOf(training.groupNoise) },
    routing,
    given: given.routing !== undefined,
  };
  if (recompute) {
    const most = given.routing === undefined ? router.mostChoices(tokens) : -1;
    let sums: Tensor<FloatDType> | undefined;
    if (projections === undefined) bank.forward(x.handle, y.handle, tokens, routing, most, residual?.handle);
    else {
      const layer = { onDevice, routed, projections };
      const experts = fusedExperts(layer, x.handle, y.handle, routing, most);
      sums = latentForward(layer, x.handle, y.handle, tokens, experts, residual?.handle);
    }
    if (given.norm) x.dispose();
    return new LayerState({ ...pass, x: given.norm ? undefined : x, sums });
  }
  const rows =
    projections === undefined
      ? expertsForward(parts, onDevice, x, routing, y, residual)
      : latentRows(parts, projections, x, tokens, routing, y, residual);
  const kept = { ...pass, ...rows };
  return new LayerState(offload ? movedToHost(kept) : kept);
}

/** Writes y [T, H] = the outputs of the experts of a layer of the device, and returns the rows before the activation. */
function expertsForward(
  parts: LayerParts,
  layer: DeviceLayer,
  x: Tensor<FloatDType>,
  routing: Routing,
  y: Tensor<FloatDType>,
  residual: Tensor<FloatDType> | undefined,
): InnerRows {
  using temporaries = new Temporaries();
  const matrices = parts.backwardMatrices(layer);
  const rows = passRows(layer, x, routing, temporaries);
  const saved = innerRows(layer, matrices, x, rows);
  const inner = temporaries.keep(activatedRows(layer, rows, saved));
  let outputs = temporaries.keep(outputRows(matrices, inner, rows));
  const { outputActivation, weightOn } = layer.description;
  if (outputActivation === "softmax") {
    const { scores, ...others } = routerScores(outputs);
    for (const other of Object.values(others)) other.dispose();
    outputs = temporaries.keep(scores);
  }
  const { weights } = rows;
  const [count, slots] = weights.shape as [number, number];
  const factors = weightOn === "input" ? temporaries.keep(ones(layer.device, [count, slots], weights.dtype)) : weights;
  const identity =
    layer === parts.routed ? parts.bank.identity?.outputs(x.handle, routing, residual?.handle) : undefined;
  if (identity) temporaries.keep(identity);
  const added = identity ?? residual;
  combine(outputs, rows.rowOfSlot, factors, { out: y, ...(added && { residual: added }) });
  return saved;
}

/** The same of a layer with `latent`: the rows of both its layers, and the sums of the routed experts. */
function latentRows(
  parts: LayerParts,
  projections: LatentProjections,
  x: Tensor<FloatDType>,
  tokens: Tokens,
  routing: Routing,
  y: Tensor<FloatDType>,
  residual: Tensor<FloatDType> | undefined,
): Pick<SavedPass, "pre" | "multiplied" | "sharedPre" | "sharedMultiplied" | "sums"> {
  const { onDevice, routed } = parts;
  let own: InnerRows | undefined;
  let shared: InnerRows | undefined;
  const experts: LatentExperts = {
    routed(z, sums) {
      own = expertsForward(parts, routed, z, routing, sums, undefined);
    },
    shared(added) {
      shared = expertsForward(parts, onDevice, x, routing, y, added);
    },
  };
  const layer = { onDevice, routed, projections };
  const sums = latentForward(layer, x.handle, y.handle, tokens, experts, residual?.handle);
  return { ...own, sharedPre: shared?.pre, sharedMultiplied: shared?.multiplied, sums };
}

function viewOf<T extends Tensor | undefined>(tensor: T): T {
  return tensor?.reshape(tensor.shape) as T;
}
