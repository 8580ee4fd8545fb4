import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { copyAll } from "../../operators/copy_all.js";
import { rmsNormBackward } from "../../operators/experts/rms_norm_backward.js";
import type { LayerParts } from "../layer_parts.js";
import { timesNumber } from "../router/scales.js";
import { Temporaries } from "../temporaries.js";
import { readByRouter, type SavedPass } from "./layer_state.js";
import type { LayerTensors } from "./layer_tensors.js";
import { addTo, type MatrixSum } from "./sums.js";

/** Where the gradients of the router's tokens go, and those of the weight of their norm. */
export interface GateInputTarget {
  readonly gradients: LayerTensors;
  readonly accumulate: boolean;
  /** [T, H], the gradient of the router's tokens: its share of dx, unless they are its own. */
  readonly dx: Tensor<FloatDType>;
}

/** What the gates of a pass multiplied: the router's tokens [T, H] after norm and jitter. */
export function gateInput(parts: LayerParts, pass: SavedPass, temporaries: Temporaries): Tensor<FloatDType> {
  const given = readByRouter(pass);
  const normalised = parts.router.weights.normalised(given.handle, pass.tokens);
  if (normalised) temporaries.keep(normalised);
  const read = normalised ?? given;
  return jitters(parts, pass) ? temporaries.keep(jittered(parts, pass, read)) : read;
}

/** From the gradient of {@link gateInput} to the router's tokens and the weight of its norm. */
export function gateInputBackward(parts: LayerParts, pass: SavedPass, sum: MatrixSum, target: GateInputTarget): void {
  const { device, description, router } = parts;
  const { routerNorm, hiddenSize } = description;
  const { dx } = target;
  const jitter = jitters(parts, pass);
  if (routerNorm === undefined && !jitter) {
    sum.into(dx);
    return;
  }
  using temporaries = new Temporaries();
  const dRead = temporaries.keep(sum.toTensor([pass.tokens.count, hiddenSize], pass.tokens.dtype));
  const gradient = jitter ? temporaries.keep(jittered(parts, pass, dRead)) : dRead;
  if (routerNorm === undefined) {
    copyAll(gradient, dx);
    return;
  }
  const factors = router.weights.normFactors as Tensor<"f32">;
  const numbers = { epsilon: routerNorm.epsilon, offset: 0 };
  const into = target.gradients.projection("routerNormWeight")?.weight;
  if (into === undefined) {
    rmsNormBackward(readByRouter(pass), factors, gradient, { ...numbers, want: "dx", out: { dx } });
    return;
  }
  const dFactors = temporaries.keep(device.empty(into.shape, into.dtype));
  rmsNormBackward(readByRouter(pass), factors, gradient, { ...numbers, out: { dx, dWeight: dFactors } });
  const dWeight = target.accumulate ? temporaries.keep(device.empty(into.shape, into.dtype)) : into;
  timesNumber(dFactors, routerNorm.scale, dWeight);
  if (target.accumulate) addTo(into, dWeight);
}

function jitters({ description }: LayerParts, { training }: SavedPass): boolean {
  return training !== undefined && description.routerJitter !== undefined;
}

/** x with the jitter of a pass; the gradient of jitter is the same jitter of the gradient. */
function jittered<D extends FloatDType>(
  { device, description }: LayerParts,
  { training }: SavedPass,
  x: Tensor<D>,
): Tensor<D> {
  const out = device.empty(x.shape, x.dtype);
  const epsilon = description.routerJitter as number;
  device.backend.jitter({ x: x.handle, seed: training?.seed as bigint, epsilon, y: out.handle });
  return out;
}
