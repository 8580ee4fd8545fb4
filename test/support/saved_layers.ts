import { join } from "node:path";
import { expect } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { type Shape, shapeSize } from "../../lib/core/tensors/shape.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import { extraWeights } from "../../lib/layer/weights/extra_weights.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomExpert, randomShared } from "../../lib/testing/inputs/random_expert.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";

/** A layer's configuration, and options that are not random. */
export type LayerOptions = MoeLayerConfig & Partial<Omit<MoeLayerOptions, "device">>;

/** Random weights for whatever a configuration has. Tensors are left to the device's end. */
export function layerOf(device: Device, given: LayerOptions, biases = true): MoeLayer {
  const random = new Random(3);
  const draw = (shape: Shape, deviation: number): Tensor<FloatDType> =>
    device.tensor(random.normals(shapeSize(shape), deviation), shape, "f32");
  const { hiddenSize, intermediateSize, numExperts, bank = { first: 0, count: numExperts } } = given;
  const { noisy, hierarchy, expertChoice, hashRouting, scoring } = given;
  const takesBias = !noisy && !hierarchy && !expertChoice && !hashRouting && scoring !== "sparsemixer";
  const integers = (shape: Shape, limit: number): Tensor<"i32"> =>
    device.tensor(
      Int32Array.from({ length: shapeSize(shape) }, () => random.integer(0, limit - 1)),
      shape,
    );
  const extra = extraWeights(given).map(({ role, shape, limit }) => [
    role,
    limit === undefined ? draw(shape, 0.3) : integers(shape, limit),
  ]);
  const { shared, sharedGate, sharedGateBias } = randomShared(draw, given, biases);
  const hasShared = bank.first === 0;
  return MoeLayer.create({
    device,
    router: draw([numExperts, hiddenSize], 0.3),
    ...(biases && { routerBias: draw([numExperts], 0.1) }),
    ...(biases && takesBias && { selectionBias: draw([numExperts], 0.1) }),
    experts: randomExpert(draw, given, intermediateSize, biases, [bank.count]),
    ...(hasShared && shared && { shared }),
    ...((hasShared || given.sharedExpert?.gate === "softmax") && sharedGate && { sharedGate, sharedGateBias }),
    ...Object.fromEntries(extra),
    ...given,
  } as MoeLayerOptions);
}

/** Saves a layer and loads it again on its device. */
export async function saved(layer: MoeLayer): Promise<MoeLayer> {
  using directory = temporaryDirectory();
  const path = join(directory.path, "layer.safetensors");
  await layer.save(path);
  return await MoeLayer.load(path, { device: layer.device });
}

const bitsOf = async (tensor: Tensor) => {
  const bits = await tensor.raw();
  tensor.dispose();
  return bits;
};

/** Expects that a layer saved and loaded is the same: description, routing and outputs, in training too, bit for bit. */
export async function expectSame(layer: MoeLayer, dtype: FloatDType = "f32"): Promise<void> {
  using loaded = await saved(layer);
  expect(loaded.description).toEqual(layer.description);
  const { hiddenSize, noisy, routerJitter, hashRouting } = layer.description;
  const training = { training: { seed: 5 } };
  const inTraining = noisy === undefined && routerJitter === undefined ? [] : [training];
  for (const shape of [
    [7, hiddenSize],
    [2, 3, hiddenSize],
  ]) {
    using x = layer.device.tensor(new Random(1).normals(shapeSize(shape)), shape, dtype);
    const ids = {
      ...(hashRouting && { tokenIds: Array.from({ length: shapeSize(shape) / hiddenSize }, (_, id) => id) }),
    };
    for (const training of [{}, ...inTraining]) {
      const options = { ...ids, ...training };
      const [ours, theirs] = [layer.route(x, options), loaded.route(x, options)];
      for (const result of ["ids", "weights"] as const) {
        expect(await bitsOf(theirs[result])).toEqual(await bitsOf(ours[result]));
      }
      expect(await bitsOf(loaded.forward(x, options))).toEqual(await bitsOf(layer.forward(x, options)));
    }
  }
}
