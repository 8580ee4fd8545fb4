import type { Device } from "../../lib/core/device/device.js";
import type { ExpertRange } from "../../lib/core/layer/expert_range.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../lib/core/tensors/shape.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import { type ExpertWeights, mapExpert } from "../../lib/layer/weights/expert_weights.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomExpert, randomShared } from "../../lib/testing/inputs/random_expert.js";

/** The options of a bank of the layer that `options`, with stacked experts, describe. */
export function bankOptions(options: MoeLayerOptions, bank: ExpertRange): MoeLayerOptions {
  const { shared, sharedGate, sharedGateBias, experts, ...rest } = options;
  const { first } = bank;
  const gate = { ...(sharedGate && { sharedGate }), ...(sharedGateBias && { sharedGateBias }) };
  return {
    ...rest,
    experts: expertsOfBank(experts as ExpertWeights<Tensor<FloatDType>, Tensor<FloatDType>>, bank),
    bank,
    ...(first === 0 && shared && { shared }),
    ...((first === 0 || options.sharedExpert?.gate === "softmax") && gate),
  };
}

/** E experts divided into banks that begin at the given experts. */
export function banksOf(numExperts: number, begins: readonly number[]): ExpertRange[] {
  const edges = [...new Set([0, ...begins.filter((begin) => begin < numExperts)])].sort((a, b) => a - b);
  return edges.map((first, index) => ({ first, count: (edges[index + 1] ?? numExperts) - first }));
}

/** A float32 layer with normal weights and the routers that its configuration needs. */
export function optionsOf(device: Device, config: MoeLayerConfig): MoeLayerOptions {
  const random = new Random(5);
  const { hiddenSize, intermediateSize, numExperts, hierarchy, noisy } = config;
  const draw = (shape: Shape, deviation = hiddenSize ** -0.5): Tensor<FloatDType> =>
    device.tensor(random.normals(shapeSize(shape), deviation), shape, "f32");
  const groups = hierarchy?.numGroups ?? 0;
  return {
    ...config,
    device,
    router: draw([numExperts, hiddenSize]),
    ...(hierarchy && { groupRouter: draw([groups, hiddenSize]) }),
    ...(noisy && { noiseRouter: draw([numExperts, hiddenSize]) }),
    ...(noisy && hierarchy && { groupNoiseRouter: draw([groups, hiddenSize]) }),
    experts: randomExpert(draw, config, intermediateSize, true, [numExperts]),
    ...randomShared(draw, config, true),
  };
}

/** The weights of a bank's experts, of those of all experts. */
export function expertsOfBank<T extends Tensor>(
  stacked: ExpertWeights<T, T>,
  { first, count }: ExpertRange,
): ExpertWeights<T, T> {
  return mapExpert(stacked, (all) => all.rows(first, first + count) as T);
}

/** What the layers of several banks give together. */
export async function sumOfBanks(
  banks: readonly ExpertRange[],
  outputOf: (bank: ExpertRange) => Tensor,
): Promise<Float64Array> {
  return sumOf(await Promise.all(banks.map(async (bank) => (await outputOf(bank).data()) as Float32Array)));
}

/** The sum of outputs of equal size. */
export function sumOf(outputs: readonly ArrayLike<number>[]): Float64Array {
  return Float64Array.from(outputs[0] as ArrayLike<number>, (_, index) =>
    outputs.reduce((total, output) => total + (output[index] as number), 0),
  );
}
