import { describe, expect, test } from "vitest";
import { type DeviceName, openDevice } from "../../lib/devices.js";
import { relativeError } from "../../lib/testing/difference.js";
import { RandomWeights, randomLayer, randomTokens } from "../../lib/testing/inputs/random_layer.js";
import { deviceNames, openForTests } from "../support/devices.js";

describe.each(deviceNames)("random weights on %s", (name) => {
  const device = openForTests(name);

  test("are normal, and continue across blocks", async () => {
    const count = 2 ** 20 + 12345;
    using tensor = new RandomWeights(7).tensor(device(), [count], "f32", 0.5);
    const values = Array.from(await tensor.data());
    const mean = values.reduce((sum, value) => sum + value, 0) / count;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count;
    expect(Math.abs(mean)).toBeLessThan(0.01);
    expect(Math.abs(variance - 0.25)).toBeLessThan(0.01);
    expect(values.slice(2 ** 20, 2 ** 20 + 1000)).not.toEqual(values.slice(0, 1000));
  });

  test("are the same values in every dtype, up to rounding", async () => {
    using exact = new RandomWeights(3).tensor(device(), [1000], "f32", 1);
    for (const [dtype, error] of [
      ["f16", 2 ** -11],
      ["bf16", 2 ** -8],
    ] as const) {
      using rounded = new RandomWeights(3).tensor(device(), [1000], dtype, 1);
      expect(relativeError(await rounded.data(), await exact.data())).toBeLessThanOrEqual(error);
    }
  });
});

test("a random layer is the same on every device", async () => {
  const config = { hiddenSize: 65, intermediateSize: 33, numExperts: 12, topK: 3, normalize: true };
  const outputOn = async (name: DeviceName): Promise<Float32Array> => {
    using device = openDevice(name);
    const told: number[] = [];
    using layer = await randomLayer(device, config, "f32", 5, (experts) => told.push(experts));
    expect(told).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
    using x = device.tensor(randomTokens(20, 65, 5), [20, 65]);
    using y = layer.forward(x);
    return await y.data();
  };
  const expected = await outputOn("reference");
  expect(Math.max(...expected.map(Math.abs))).toBeGreaterThan(0.1);
  for (const name of deviceNames) expect(relativeError(await outputOn(name), expected)).toBeLessThan(1e-5);
});
