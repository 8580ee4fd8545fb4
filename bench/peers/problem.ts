import { join } from "node:path";
import { inputCount } from "#lib/bench/bench_case.js";
import { writeSafetensors } from "#lib/checkpoint/safetensors/index.js";
import { storedDTypes } from "#lib/checkpoint/safetensors/stored_dtypes.js";
import type { Device } from "#lib/core/device.js";
import type { Shape } from "#lib/core/shape.js";
import { Tensor } from "#lib/core/tensor.js";
import type { ScaleLevel } from "#lib/core/weight_format.js";
import { weightFormat } from "#lib/core/weight_formats.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { countedRows, layerWork, type Work } from "#lib/layer/work.js";
import { MoeLayer } from "#lib/moe_layer.js";
import { disposeQuantized, type QuantizedWeight } from "#lib/operators/experts/quantized_weight.js";
import { routerProjection } from "#lib/operators/routing/router_projection.js";
import { RandomWeights, randomTokens } from "#lib/testing/random_layer.js";
import { tokensPerExpert } from "#lib/testing/tokens_per_expert.js";
import { PeerError } from "./contender.js";
import { type PeerDType, type PeerFormat, type PeerWeights, partsOf } from "./formats.js";

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
 * [T, H]. Quantised matrices are unsigned codes, with a zero point in the middle of their range, and `gate.scales`
 * [E, I, H / group] and so on.
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
  const gate = matrices(device, random, weights, [numExperts, intermediateSize, hiddenSize]);
  const up = matrices(device, random, weights, [numExperts, intermediateSize, hiddenSize]);
  const down = matrices(device, random, weights, [numExperts, hiddenSize, intermediateSize]);
  using _ = { [Symbol.dispose]: () => [gate, up, down].forEach(disposeMatrices) };
  using router = random.tensor(device, [numExperts, hiddenSize], dtype, hiddenSize ** -0.5);
  const create = () => MoeLayer.create({ ...config, device, router, experts: { gate, up, down }, tokenFormat });
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
    const tensors: Record<string, Tensor> = {
      router,
      ...named("gate", gate),
      ...named("up", up),
      ...named("down", down),
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
        if (dy) tensors[`dy.${tokens}.${index}`] = dy;
        tensors[`x.${tokens}.${index}`] = x;
        tensors[`logits.${tokens}.${index}`] = logits;
      }
    }
    await writeTensors(join(directory, weightsFile), tensors, weights);
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

/** The matrices of all experts: a tensor, or codes and scales. */
type Matrices = Tensor<PeerDType> | QuantizedWeight;

function matrices(device: Device, random: RandomWeights, format: PeerWeights, shape: Shape): Matrices {
  const [experts, rows, columns] = shape as [number, number, number];
  if (format === "f32" || format === "bf16") {
    return random.tensor(device, shape, format, columns ** -0.5) as Tensor<PeerDType>;
  }
  const { bits, scales } = weightFormat(format);
  const group = (scales as ScaleLevel).columns || columns;
  if (columns % group !== 0) throw new PeerError(`${format}: expected columns in whole groups, got ${columns}`);
  return {
    format,
    codes: random.codes(device, [experts, rows, (columns * bits) / 8]),
    scales: random.tensor(device, [experts, rows, columns / group], "f32", columns ** -0.5 / 2 ** (bits - 1)),
  };
}

function disposeMatrices(matrices: Matrices): void {
  if (matrices instanceof Tensor) matrices.dispose();
  else disposeQuantized(matrices);
}

/** Matrices by the names that they have in the file. */
function named(name: string, matrices: Matrices): Record<string, Tensor> {
  if (matrices instanceof Tensor) return { [name]: matrices };
  return { [name]: matrices.codes, [`${name}.scales`]: matrices.scales as Tensor };
}

async function writeTensors(
  path: string,
  tensors: Readonly<Record<string, Tensor>>,
  weights: PeerWeights,
): Promise<void> {
  const stored = await Promise.all(
    Object.entries(tensors).map(async ([name, tensor]) => {
      const dtype = storedDTypes[tensor.dtype];
      const data = await tensor.raw();
      return [name, { dtype, shape: tensor.shape, data: data instanceof Uint8Array ? unsigned(data, weights) : data }];
    }),
  );
  await writeSafetensors(path, Object.fromEntries(stored));
}

/** Signed codes as unsigned ones, in place: the sign bit of each is inverted. */
function unsigned(codes: Uint8Array, format: PeerWeights): Uint8Array {
  const signs = weightFormat(format).bits === 8 ? 0x80 : 0x88;
  for (let index = 0; index < codes.length; index++) codes[index] = (codes[index] as number) ^ signs;
  return codes;
}
