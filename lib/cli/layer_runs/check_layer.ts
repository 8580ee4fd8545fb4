import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import type { MoeLayer } from "../../moe_layer.js";
import { resultDType } from "../../operators/check.js";
import type { Routing } from "../../operators/routing/gating.js";
import { type Check, checkOutput } from "../../testing/run.js";
import type { Expectation } from "../workloads/workload.js";
import type { RunTokens } from "./run_tokens.js";

/**
 * Largest accepted error of a layer's output, relative to the largest expected entry. With 16-bit storage, rounding the
 * inputs and the result already takes half of it.
 */
const outputTolerance: Readonly<Record<FloatDType, number>> = { f64: 1e-12, f32: 1e-5, f16: 3e-3, bf16: 2e-2 };
const weightTolerance = 3e-6;

/**
 * Compares a layer's routing and output for x with the expected ones. A router with 16-bit weights may legitimately
 * choose other experts; in that case the layer is given the expected routing and only the output is compared.
 */
export async function checkLayer(
  layer: MoeLayer,
  { x, read, options, routeOptions }: RunTokens,
  expectation: Expectation,
): Promise<Check[]> {
  const exact = x.dtype === "f32" || x.dtype === "f64";
  const checks: Check[] = [];
  using noise = expectation.noise && uploadNoise(layer, x, expectation.noise);
  const training = noise && { training: { noise } };
  const own = layer.route(read, { ...routeOptions, ...training });
  if (exact && expectation.routing) {
    const { ids, weights } = expectation.routing;
    checks.push(await checkOutput("ids", own.ids, ids, { tolerance: 0 }));
    checks.push(await checkOutput("weights", own.weights, weights, { tolerance: weightTolerance }));
  }
  const given = exact ? undefined : uploadRouting(layer, expectation.routing);
  using y = layer.forward(x, given ? { routing: given } : { ...options, ...training });
  checks.push(await checkOutput("output", y, expectation.output, { tolerance: outputTolerance[x.dtype] }));
  for (const tensor of [own, given].flatMap((routing) => (routing ? [routing.ids, routing.weights] : []))) {
    tensor.dispose();
  }
  return checks;
}

function uploadNoise({ device, description }: MoeLayer, x: Tensor<FloatDType>, noise: Float32Array): Tensor<"f32"> {
  const shape = [noise.length / description.numExperts, description.numExperts];
  return device.tensor(noise, shape, resultDType(x));
}

function uploadRouting(layer: MoeLayer, routing: Expectation["routing"]): Routing | undefined {
  if (routing === undefined) return undefined;
  const wide = resultDType({ dtype: layer.description.weightDType });
  const shape = [routing.ids.length / layer.description.topK, layer.description.topK];
  return {
    ids: layer.device.tensor(routing.ids, shape),
    weights: layer.device.tensor(routing.weights, shape, wide),
  };
}
