import { expect } from "vitest";
import type { MoeLayer, Tensor } from "../../lib/index.js";
import type { BackwardOptions } from "../../lib/layer/backward/layer_backward.js";
import type { LayerParameters } from "../../lib/layer/backward/layer_parameters.js";
import type { ForwardOptions } from "../../lib/layer/forward/forward_options.js";
import { relativeError } from "../../lib/testing/difference.js";
import type { Random } from "../../lib/testing/inputs/random.js";
import { dot } from "./central_differences.js";
import { float64, normals, valuesOf } from "./float64.js";

const step = 1e-5;
const most = 8;

/** The largest error of some elements of a gradient, relative to the largest of these elements or to 1. */
export function layerGradientError(
  gradient: Tensor,
  value: Tensor<"f32">,
  random: Random,
  lossOf: () => { loss: number; ids: string },
  ids: string,
  changed: () => void,
): number {
  const [given, analytic] = [valuesOf(value), valuesOf(gradient)];
  const found: number[] = [];
  const expected: number[] = [];
  for (let i = 0; i < Math.min(most, given.length); i++) {
    const index = given.length <= most ? i : random.integer(0, given.length - 1);
    const moved = (by: number) => {
      const values = given.slice();
      values[index] = (given[index] as number) + by;
      value.write(values);
      changed();
      return lossOf();
    };
    const [above, below] = [moved(step), moved(-step)];
    // The choice of experts is held fixed.
    if (above.ids !== ids || below.ids !== ids) continue;
    expected.push((above.loss - below.loss) / (2 * step));
    found.push(analytic[index] as number);
  }
  value.write(given);
  changed();
  return found.length === 0 ? 0 : relativeError(found, Float64Array.from(expected), 1);
}

/** Compares dx and the gradients of all weights with central differences, on `reference` in float64. */
export function expectGradients(
  layer: MoeLayer,
  x: Tensor<"f32">,
  random: Random,
  {
    forward = {},
    extraLoss = () => 0,
    ...backward
  }: { forward?: Omit<ForwardOptions<"f32">, "save" | "want">; extraLoss?: () => number } & BackwardOptions = {},
): void {
  using parameters: LayerParameters = layer.parameters();
  const { y, state } = layer.forward(x, { ...forward, save: true });
  const weights = normals(random, y.size);
  using dy = float64(layer.device, weights, y.shape);
  const { dx, dRouterInput } = layer.backward(state, dy, { ...backward, gradients: parameters.gradients });
  expect(valuesOf(y)).toEqual(valuesOf(layer.forward(x, forward)));
  const { training, routerInput, tokenIds, expertIds } = forward;
  const idsOf = () =>
    layer
      .route(routerInput ?? x, { training, tokenIds, expertIds })
      .ids.dataSync()
      .join();
  const lossOf = () => ({ loss: dot(valuesOf(layer.forward(x, forward)), weights) + extraLoss(), ids: idsOf() });
  const ids = idsOf();
  expect(layerGradientError(dx, x, random, lossOf, ids, () => {})).toBeLessThan(1e-6);
  expect(dRouterInput?.shape).toEqual(routerInput?.shape);
  if (dRouterInput) {
    const tokens = routerInput as Tensor<"f32">;
    expect(layerGradientError(dRouterInput, tokens, random, lossOf, ids, () => {})).toBeLessThan(1e-6);
  }
  for (const { name, value, gradient } of parameters) {
    const error = layerGradientError(gradient as Tensor, value, random, lossOf, ids, parameters.changed);
    expect(error, name).toBeLessThan(1e-6);
  }
}
