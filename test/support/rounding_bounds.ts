import type { Device } from "../../lib/core/device/device.js";
import type { StageList } from "../../lib/core/layer/stages.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { type Matrix, rowOf } from "../../lib/reference/core/matrix.js";
import { ForwardState } from "../../lib/reference/layer/forward_state.js";
import type { ReferenceLayer } from "../../lib/reference/layer/layer_handle.js";
import { type LayerProblem, RandomLayer } from "./random_layer.js";

/** The relative error of float32 sums and activations, of the sum of the terms' magnitudes. */
const float32 = 2 ** -23;

/** The largest relative error of a stored value, and the smallest magnitude for which that holds. */
const roundings: Readonly<Record<FloatDType, readonly [number, number]>> = {
  f32: [float32, 2 ** -126],
  f16: [2 ** -11, 2 ** -14],
  bf16: [2 ** -8, 2 ** -126],
  f64: [float32, 2 ** -126],
};

/** Tokens [T, H], and the experts that they chose. */
export interface RoutedTokens {
  readonly x: ArrayLike<number>;
  readonly ids: Int32Array;
  readonly weights: ArrayLike<number>;
}

/**
 * How far each output of a problem's layer may be from another device's, if each sums in float32 and rounds three
 * times to the problem's dtype: rows after the activation, outputs of experts, and their sums; with `weightOn: "input"`
 * also x times its weight. Outputs are sums that may cancel, so an error has no bound relative to them; errors are
 * carried through weights without signs instead.
 */
export function roundingBounds(reference: Device, problem: LayerProblem, tokens: RoutedTokens): Float64Array {
  const [unit, smallest] = roundings[problem.dtype];
  const allowed = 6 * unit; // three roundings on two devices
  using layer = new RandomLayer(reference, problem);
  const linear = { ...problem.config, outputActivation: "none" } as const;
  using magnitudes = new RandomLayer(reference, { ...problem, config: linear, magnitudes: true });
  const state = stateOf(problem, tokens);
  run(layer, ["sharedGate", "sort", "gateUp", "down"], state);
  const bounds = stateOf(problem, absolute(tokens));
  run(magnitudes, ["sharedGate"], bounds);
  const gate = bounds.has("sharedGate") ? Math.max(...bounds.get("sharedGate").values) : 0;
  const { ids, weights } = state.get("slots");
  const ofGate = 1 + (gate * float32) / unit;
  bounds.set("slots", { ids, weights: map(weights, (weight) => Math.abs(weight) * ofGate) });
  bounds.set("rows", state.get("rows"));
  run(magnitudes, ["gateUp"], bounds);
  // x times its weight may be rounded too: errors of random sign.
  const ofProducts = problem.config.weightOn === "input" ? problem.config.hiddenSize ** -0.5 : 0;
  const ofSums = float32 / unit + ofProducts;
  const terms = state.get("inner").values;
  bounds.set(
    "inner",
    map(bounds.get("inner"), (sum, i) => Math.max(Math.abs(terms[i] as number), smallest) + sum * ofSums),
  );
  run(magnitudes, ["down"], bounds);
  const outputs = map(bounds.get("outputs"), (sum) => sum + smallest);
  if (problem.config.outputActivation === "softmax") afterSoftmax(outputs, state.get("outputs"), allowed);
  bounds.set("outputs", outputs);
  run(magnitudes, ["combine"], bounds);
  return bounds.get("y").values.map((sum) => allowed * (sum + smallest));
}

/** The largest difference, relative to its bound; Infinity if a value is NaN. */
export function errorWithin(actual: ArrayLike<number>, expected: ArrayLike<number>, bounds: Float64Array): number {
  if (actual.length !== expected.length || actual.length !== bounds.length) return Number.POSITIVE_INFINITY;
  return bounds.reduce((largest, bound, i) => {
    const difference = Math.abs((actual[i] as number) - (expected[i] as number));
    return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(largest, difference / bound);
  }, 0);
}

/** Smaller results of a softmax may be 0. */
const leastProbability = 2 ** -100;

/**
 * From bounds of logits to those of their softmax: if no logit changes by more than d, p does by p (exp(2 d) - 1), which
 * may be infinite, and by 1 at most.
 */
function afterSoftmax(bounds: Matrix, results: Matrix, allowed: number): void {
  for (let row = 0; row < bounds.rows; row++) {
    const change = 1 + Math.expm1(2 * allowed * Math.max(...rowOf(bounds, row))) / allowed;
    rowOf(bounds, row).set(
      rowOf(results, row).map((value) => Math.min((value + leastProbability) * change, 1 / allowed)),
    );
  }
}

function stateOf({ config }: LayerProblem, { x, ids, weights }: RoutedTokens): ForwardState {
  const rows = x.length / config.hiddenSize;
  const matrix = (values: ArrayLike<number>, columns: number) => ({ values: Float64Array.from(values), rows, columns });
  return new ForwardState({
    x: matrix(x, config.hiddenSize),
    chosen: { ids, weights: matrix(weights, weights.length / rows) },
  });
}

function absolute({ x, ids, weights }: RoutedTokens): RoutedTokens {
  return { x: Float64Array.from(x, Math.abs), ids, weights: Float64Array.from(weights, Math.abs) };
}

function map({ values, rows, columns }: Matrix, change: (value: number, index: number) => number): Matrix {
  return { values: values.map(change), rows, columns };
}

function run(layer: RandomLayer, stages: StageList, state: ForwardState): void {
  (layer.parts.onDevice.handle as ReferenceLayer).run(stages, state);
}
