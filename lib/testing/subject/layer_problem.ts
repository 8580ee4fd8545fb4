import type { Device } from "../../core/device/device.js";
import { MoeError } from "../../core/errors.js";
import { withoutUndefined } from "../../core/input/without_undefined.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { openDevice } from "../../devices.js";
import type { MoeLayerOptions } from "../../layer/create.js";
import { MoeLayer } from "../../moe_layer.js";
import type { ReferenceTensor } from "../../reference/core/tensor.js";
import type { Case } from "../case.js";
import { projectionNames } from "../cases/layer_case.js";
import { drawsOf } from "../inputs/draws.js";
import { type GivenForward, type GivenLayer, Inputs, type LayerCall } from "../inputs/inputs.js";
import { withArrays, withTensors } from "./arrays.js";
import type { Problem, SubjectInputs } from "./subject.js";

/** The options of a layer that are its weights. */
const weightNames = [
  ...projectionNames,
  "expertTable",
  "selectionBias",
  "experts",
  "shared",
] as const satisfies readonly (keyof GivenLayer)[];

/** Draws what a case's layer and its forward get, and computes the forward in float64. */
export function layerProblemOf(source: Case<string>, seed: number): Problem {
  const text = `${source.operator} ${source.name}${seed === 0 ? "" : ` ${seed}`}`;
  using device = openDevice("reference", { poison: true });
  using drawn = new Inputs(device, drawsOf(source, text), false);
  using exact = new Inputs(device, drawsOf(source, text), true);
  const { layer, given, x, options, y } = forwardOf(source, drawn);
  const { y: expected } = forwardOf(source, exact);
  const { weights, config } = partsOf(given);
  const inputs = withArrays({ x, weights, config, ...options }) as object;
  const outputs = { y: { shape: y.shape, dtype: y.dtype } };
  return {
    operator: "layer",
    inputs: { ...inputs, description: layer.description, outputs },
    expected: { y: (expected.handle as ReferenceTensor).values().slice() },
    names: new Map([["y", "y"]]),
  };
}

function forwardOf(source: Case<string>, inputs: Inputs): LayerCall {
  for (const tensor of Object.values(source.run(inputs))) inputs.keep(tensor);
  const [call, ...others] = inputs.forwards;
  if (call !== undefined && others.length === 0) return call;
  const problem = `expected one forward of a layer, got ${inputs.forwards.length}; mark the case devicesOnly`;
  throw new MoeError("INTERNAL", `${source.operator} ${source.name}: ${problem}`);
}

function partsOf(given: GivenLayer) {
  const isWeight = ([name]: [string, unknown]): boolean => (weightNames as readonly string[]).includes(name);
  const entries = Object.entries(given);
  return {
    weights: Object.fromEntries(entries.filter(isWeight)),
    config: Object.fromEntries(entries.filter((entry) => !isWeight(entry))),
  };
}

/** Computes a layer from arrays, as a subject does. */
export async function computeLayer(device: Device, inputs: SubjectInputs) {
  const made: Disposable[] = [];
  try {
    const { x, routerInput, tokenIds, expertIds, weights, config, routing, training, residual } = inputs;
    const given = { x, routerInput, tokenIds, expertIds, weights, routing, training, residual };
    const tensors = withTensors(device, given, (tensor) => made.push(tensor));
    const {
      x: tokens,
      weights: own,
      ...forward
    } = tensors as { x: Tensor<FloatDType>; weights: object } & GivenForward;
    const layer = MoeLayer.create({ ...config, ...own, device } as MoeLayerOptions);
    made.push(layer);
    const y = layer.forward(tokens, withoutUndefined(forward));
    made.push(y);
    return { y: await y.data() };
  } finally {
    for (const resource of made) resource[Symbol.dispose]();
  }
}
