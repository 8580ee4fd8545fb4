import { join } from "node:path";
import { writeSafetensors } from "#lib/checkpoint/safetensors/index.js";
import type { Device } from "#lib/core/device.js";
import type { Tensor } from "#lib/core/tensor.js";
import type { MoeLayerConfig } from "#lib/layer/description/config.js";
import { countedRows, layerWork, type Work } from "#lib/layer/work.js";
import { MoeLayer } from "#lib/moe_layer.js";
import { routerProjection } from "#lib/operators/routing/router_projection.js";
import { RandomWeights, randomTokens } from "#lib/testing/random_layer.js";
import { tokensPerExpert } from "#lib/testing/tokens_per_expert.js";
import { inputCount } from "../case.js";

/** Dtypes of weights and tokens in which peers are compared. */
export const peerDTypes = ["f32", "bf16"] as const;
export type PeerDType = (typeof peerDTypes)[number];

/** One set of tokens. */
export interface Input {
  /** [T, H] */
  readonly x: Tensor<PeerDType>;
  /** [T, E], the layer's router logits for x. */
  readonly logits: Tensor<"f32">;
  /** Work of the two grouped products, without the router, as peers get its logits. */
  readonly work: Work & { readonly activationBytes: number };
}

/** The same layer and tokens for all contenders: on our device, and in a file for the peers. */
export interface Problem extends Disposable {
  readonly config: MoeLayerConfig;
  readonly layer: MoeLayer;
  /** Inputs by T. */
  readonly inputs: ReadonlyMap<number, readonly Input[]>;
}

/** Name of a problem's file in its directory. */
export const weightsFile = "layer.safetensors";

/**
 * Makes a problem from seeded random numbers and writes its file: `gate` and `up` [E, I, H], `down` [E, H, I] and, for
 * every T and input index, `x.T.index` [T, H] and `logits.T.index` [T, E].
 */
export async function createProblem(
  device: Device,
  config: MoeLayerConfig,
  dtype: PeerDType,
  tokenCounts: readonly number[],
  directory: string,
): Promise<Problem> {
  const { hiddenSize, intermediateSize, numExperts } = config;
  const random = new RandomWeights("peers");
  const matrices = (rows: number, columns: number): Tensor<PeerDType> =>
    random.tensor(device, [numExperts, rows, columns], dtype, columns ** -0.5) as Tensor<PeerDType>;
  using gate = matrices(intermediateSize, hiddenSize);
  using up = matrices(intermediateSize, hiddenSize);
  using down = matrices(hiddenSize, intermediateSize);
  using router = random.tensor(device, [numExperts, hiddenSize], dtype, hiddenSize ** -0.5);
  const layer = MoeLayer.create({ ...config, device, router, experts: { gate, up, down } });
  const inputs = new Map<number, Input[]>();
  const problem: Problem = {
    config,
    layer,
    inputs,
    [Symbol.dispose]() {
      for (const { x, logits } of [...inputs.values()].flat()) for (const tensor of [x, logits]) tensor.dispose();
      layer.dispose();
    },
  };
  try {
    const tensors: Record<string, Tensor<PeerDType>> = { gate, up, down };
    for (const tokens of tokenCounts) {
      const ofCount: Input[] = [];
      inputs.set(tokens, ofCount);
      for (let index = 0; index < inputCount(tokens); index++) {
        const x = device.tensor(randomTokens(tokens, hiddenSize, index), [tokens, hiddenSize], dtype);
        const logits = routerProjection(x, router);
        ofCount.push({ x, logits, work: await workOf(layer, x) });
        tensors[`x.${tokens}.${index}`] = x;
        tensors[`logits.${tokens}.${index}`] = logits;
      }
    }
    await writeTensors(join(directory, weightsFile), tensors);
    globalThis.gc?.(); // The peers need the gigabytes of the copies that were written.
    return problem;
  } catch (error) {
    problem[Symbol.dispose]();
    throw error;
  }
}

async function workOf(layer: MoeLayer, x: Tensor<PeerDType>): Promise<Input["work"]> {
  const counts = await tokensPerExpert(layer, x);
  const { stages, activationBytes } = layerWork(layer.description, countedRows(x.shape[0] as number, counts), x.dtype);
  const { gateUp, down } = stages;
  return {
    operations: gateUp.operations + down.operations,
    weightBytes: gateUp.weightBytes + down.weightBytes,
    activationBytes,
  };
}

async function writeTensors(path: string, tensors: Readonly<Record<string, Tensor<PeerDType>>>): Promise<void> {
  const stored = await Promise.all(
    Object.entries(tensors).map(async ([name, tensor]) => {
      const dtype = tensor.dtype === "f32" ? ("F32" as const) : ("BF16" as const);
      return [name, { dtype, shape: tensor.shape, data: await tensor.raw() }] as const;
    }),
  );
  await writeSafetensors(path, Object.fromEntries(stored));
}
