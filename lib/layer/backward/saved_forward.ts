import type { FloatDType } from "../../core/dtype.js";
import type { Tensor } from "../../core/tensor.js";
import { combine } from "../../operators/experts/combine.js";
import type { Routing } from "../../operators/routing/gating.js";
import { routerScores } from "../../operators/statistics/router_scores.js";
import type { Norm } from "../block.js";
import type { LayerParts } from "../layer_parts.js";
import { routingViews } from "../router/routing_views.js";
import { readFrom, type Tokens } from "../router/tokens.js";
import type { NoiseSource } from "../router/training.js";
import { Temporaries } from "../temporaries.js";
import { LayerState, movedToHost } from "./layer_state.js";
import { activatedRows, innerRows, outputRows, passRows } from "./rows.js";
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
  const { onDevice, router, bank } = parts;
  const { tokens } = given;
  const matrices = parts.backwardMatrices();
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
    tokens: { ...tokens, ids: viewOf(tokens.ids) },
    training: training && { ...training, noise: viewOf(training.noise), groupNoise: viewOf(training.groupNoise) },
    routing,
    given: given.routing !== undefined,
  };
  if (recompute) {
    const most = given.routing === undefined ? router.mostChoices(tokens) : -1;
    bank.forward(x.handle, y.handle, routing, most, residual?.handle);
    if (given.norm) x.dispose();
    return new LayerState({ ...pass, x: given.norm ? undefined : x });
  }
  using temporaries = new Temporaries();
  const rows = passRows(onDevice, x, routing, temporaries);
  const saved = innerRows(onDevice, matrices, x, rows);
  const inner = temporaries.keep(activatedRows(onDevice, saved));
  let outputs = temporaries.keep(outputRows(matrices, inner, rows));
  const { outputActivation, weightOn } = onDevice.description;
  if (outputActivation === "softmax") {
    const { scores, ...others } = routerScores(outputs);
    for (const other of Object.values(others)) other.dispose();
    outputs = temporaries.keep(scores);
  }
  const { weights } = rows;
  const [count, slots] = weights.shape as [number, number];
  const factors =
    weightOn === "input" ? temporaries.keep(ones(onDevice.device, [count, slots], weights.dtype)) : weights;
  combine(outputs, rows.rowOfSlot, factors, { out: y, ...(residual && { residual }) });
  const kept = { ...pass, ...saved };
  return new LayerState(offload ? movedToHost(kept) : kept);
}

function viewOf<T extends Tensor | undefined>(tensor: T): T {
  return tensor?.reshape(tensor.shape) as T;
}
