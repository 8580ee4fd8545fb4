import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { Routing } from "../../operators/routing/gating.js";
import { emptyInnerRows, type KeptRows } from "../forward/inner_rows.js";
import type { Norm } from "../forward/norm_and_residual.js";
import type { LayerParts } from "../layer_parts.js";
import { routingViews } from "../router/routing_views.js";
import { readFrom, type Tokens } from "../router/tokens.js";
import type { NoiseSource } from "../router/training.js";
import { freePass, LayerState, movedToHost } from "./layer_state.js";

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
  for (const layer of parts.expertLayers) parts.backwardMatrices(layer);
  using made = new Made();
  const size = [tokens.count, onDevice.description.hiddenSize] as const;
  using y = given.y.reshape(size);
  using residual = given.residual?.reshape(size);
  const x = made.own(given.x.reshape(size));
  const routerInput = made.own(given.routerInput?.reshape(size));
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
  made.own({ [Symbol.dispose]: () => freePass(pass) });
  const kept = recompute ? {} : emptyRows(parts, x, routing, made);
  const maxChoices = pass.given ? -1 : router.mostChoices(tokens);
  const computed = { x: x.handle, y: y.handle, tokens, routing, maxChoices, residual: residual?.handle, kept };
  const sums = made.own(bank.forward(computed));
  if (recompute) {
    if (given.norm) x.dispose();
    return made.returned(new LayerState({ ...pass, x: given.norm ? undefined : x, sums }));
  }
  const { routed, shared } = kept;
  const saved = { ...pass, ...routed, sharedPre: shared?.pre, sharedMultiplied: shared?.multiplied, sums };
  return made.returned(new LayerState(offload ? movedToHost(saved) : saved));
}

/** Memory for the rows of all layers of the device that hold experts. */
function emptyRows(parts: LayerParts, x: Tensor<FloatDType>, { ids }: Routing, made: Made): KeptRows {
  const [routed, shared] = parts.expertLayers.map((layer) => {
    const rows = emptyInnerRows(layer, ids.shape as [number, number], x.dtype);
    made.own(rows.pre);
    made.own(rows.multiplied);
    return rows;
  });
  return { routed, shared };
}

function viewOf<T extends Tensor | undefined>(tensor: T): T {
  return tensor?.reshape(tensor.shape) as T;
}
