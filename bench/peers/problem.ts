import { join } from "node:path";
import { inputCount } from "#lib/bench/bench_case.js";
import { writeSafetensors } from "#lib/checkpoint/safetensors/index.js";
import type { Device } from "#lib/core/device/device.js";
import type { Tensor } from "#lib/core/tensors/tensor.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { countedRows, layerWork, type Work } from "#lib/layer/work.js";
import { MoeLayer } from "#lib/moe_layer.js";
import { routerProjection } from "#lib/operators/routing/router_projection.js";
import { RandomWeights, randomTokens } from "#lib/testing/inputs/random_layer.js";
import { tokensPerExpert } from "#lib/testing/tokens_per_expert.js";
import { type PeerDType, type PeerFormat, partsOf } from "./formats.js";
import {
  disposeMatrices,
  ggufTypeOf,
  randomMatrices,
  type StoredTensors,
  storedMatrices,
  storedTensor,
} from "./matrices.js";

/** One set of tokens. */
export interface Input {
  /** [T, H] */
  readonly x: Tensor<PeerDType>;
  /** [T, E], the layer's router logits for x. */
  readonly logits: Tensor<"f32">;
  /** [T, H], the gradient of the outputs; only for training. */
  readonly dy: Tensor<PeerDType> | undefined;
  /** Work of the two grouped products, without the router, as peers get its logits; in training, that of three. */
  readonly work: Work & { readonly activationBytes: number };
}

/** The same layer and tokens for all contenders: on our device, and in a file for the peers. */
export interface Problem extends Disposable {
  readonly config: MoeLayerConfig;
  /** Copies of the layer, equal but for their addresses, over which calls rotate. */
  readonly layers: readonly [MoeLayer, ...MoeLayer[]];
  /** Inputs by T. */
  readonly inputs: ReadonlyMap<number, readonly Input[]>;
}

/** Name of a problem's file in its directory. */
export const weightsFile = "layer.safetensors";

/**
 * Makes a problem from seeded random numbers and writes its file: `router` [E, H], `gate` and `up` [E, I, H], `down`
 * [E, H, I] and, for every T and input index, `x.T.index` [T, H], `logits.T.index` [T, E] and, for training, `dy.T.index`
 * [T, H]. Quantised matrices in a format of GGUF are its blocks, whose type the metadata tell as `blocks`; others are
 * unsigned codes, with a zero point in the middle of their range, and `gate.scales` [E, I, H / group] and so on.
 * @param options.copies of the layer on our device; the file has it once.
 */
export async function createProblem(
  device: Device,
  config: MoeLayerConfig,
  format: PeerFormat,
  tokenCounts: readonly number[],
  directory: string,
  { copies = 1, training = false } = {},
): Promise<Problem> {
  const { hiddenSize, intermediateSize, numExperts } = config;
  const random = new RandomWeights("peers");
  const { weights, tokens: dtype, tokenFormat } = partsOf(format);
  const gate = randomMatrices(device, random, weights, [numExperts, intermediateSize, hiddenSize]);
  const up = randomMatrices(device, random, weights, [numExperts, intermediateSize, hiddenSize]);
  const down = randomMatrices(device, random, weights, [numExperts, hiddenSize, intermediateSize]);
  using _ = { [Symbol.dispose]: () => [gate, up, down].forEach(disposeMatrices) };
  using router = random.tensor(device, [numExperts, hiddenSize], dtype, hiddenSize ** -0.5);
  const experts = { gate: gate.weight, up: up.weight, down: down.weight };
  const create = () => MoeLayer.create({ ...config, device, router, experts, tokenFormat });
  const layer = create();
  const layers: [MoeLayer, ...MoeLayer[]] = [layer];
  const inputs = new Map<number, Input[]>();
  const problem: Problem = {
    config,
    layers,
    inputs,
    [Symbol.dispose]() {
      for (const { x, logits, dy } of [...inputs.values()].flat())
        for (const tensor of [x, logits, dy]) tensor?.dispose();
      for (const layer of layers) layer.dispose();
    },
  };
  try {
    while (layers.length < copies) layers.push(create());
    const stored: StoredTensors = {
      router: await storedTensor(router),
      ...(await storedMatrices("gate", gate)),
      ...(await storedMatrices("up", up)),
      ...(await storedMatrices("down", down)),
    };
    for (const tokens of tokenCounts) {
      const ofCount: Input[] = [];
      inputs.set(tokens, ofCount);
      for (let index = 0; index < inputCount(tokens); index++) {
        const drawn = (seed: number) =>
          device.tensor(randomTokens(tokens, hiddenSize, seed), [tokens, hiddenSize], dtype);
        const x = drawn(index);
        const logits = routerProjection(x, router);
        const dy = training ? drawn(1000 + index) : undefined;
        ofCount.push({ x, logits, dy, work: await workOf(layer, x, training) });
        if (dy) stored[`dy.${tokens}.${index}`] = await storedTensor(dy);
        stored[`x.${tokens}.${index}`] = await storedTensor(x);
        stored[`logits.${tokens}.${index}`] = await storedTensor(logits);
      }
    }
    const blocks = ggufTypeOf(weights);
    await writeSafetensors(join(directory, weightsFile), stored, { metadata: blocks ? { blocks } : {} });
    globalThis.gc?.(); // The peers need the gigabytes of the copies that were written.
    return problem;
  } catch (error) {
    problem[Symbol.dispose]();
    throw error;
  }
}

async function workOf(layer: MoeLayer, x: Tensor<PeerDType>, training: boolean): Promise<Input["work"]> {
  const counts = await tokensPerExpert(layer, x);
  const { stages, activationBytes } = layerWork(layer.description, countedRows(x.shape[0] as number, counts), x.dtype);
  const { gateUp, down } = stages;
  // Backward multiplies twice where a forward does once: for the rows' gradients and for the weights'.
  const passes = training ? 3 : 1;
  return {
    operations: passes * (gateUp.operations + down.operations),
    weightBytes: passes * (gateUp.weightBytes + down.weightBytes),
    activationBytes: passes * activationBytes,
  };
}
