import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { groupedGemm } from "../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../lib/operators/experts/packed_experts.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { type InputChange, randomInputs, randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames, kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Quantised weights with an input scale or an input order. That their products are right is among the cases of
// lib/testing/cases/quantized_weights.ts and the checkpoints of test/golden/quantised.

const [hidden, inner, experts] = [72, 64, 3];
const format = "i4_g32_bf16";

function randomWeight(device: Device, random: Random, shape: readonly [number, number], change: InputChange) {
  return { ...randomQuantized(device, random, format, shape), ...randomInputs(device, random, change, shape[1]) };
}

/** A layer of which only the last expert changes its inputs. */
function layerOf(device: Device, change: InputChange, joined = false): MoeLayer {
  const random = new Random(change);
  const list = Array.from({ length: experts }, (_, expert) => {
    const own = expert + 1 < experts ? "none" : change;
    const gate = randomWeight(device, random, [inner, hidden], own);
    const up = randomWeight(device, random, [inner, hidden], own);
    const { inputScale, inputOrder } = gate;
    const same = { ...up, ...(inputScale && { inputScale }), ...(inputOrder && { inputOrder }) };
    return { gate, up: joined ? same : up, down: randomWeight(device, random, [hidden, inner], own) };
  });
  const router = device.tensor(random.normals(experts * hidden), [experts, hidden]);
  const config = { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 2 } as const;
  return MoeLayer.create({ ...config, device, router, experts: list });
}

const tokensOf = (device: Device, count: number, dtype: FloatDType) =>
  device.tensor(new Random("tokens").normals(count * hidden), [count, hidden], dtype);

test.each(kernelPaths)("on $label a row's bits do not depend on its batch", async (path) => {
  using device = path.open();
  const random = new Random("batch");
  for (const change of ["scale", "order", "both"] as const) {
    using layer = layerOf(device, change);
    using packed = packExperts({
      ...randomQuantized(device, random, format, [10, hidden], 0.1, [1]),
      ...randomInputs(device, random, change, hidden, [1]),
    });
    for (const dtype of ["f32", "bf16"] as const) {
      using x = tokensOf(device, 150, dtype);
      using offsets = device.tensor(Int32Array.of(0, 150));
      const [all, products] = [await layer.forward(x).data(), await groupedGemm(x, packed, offsets).data()];
      for (const [first, count] of [
        [0, 1],
        [7, 12],
        [90, 60],
      ] as const) {
        using some = x.rows(first, first + count);
        using end = device.tensor(Int32Array.of(0, count));
        expect(await layer.forward(some).data()).toEqual(all.slice(first * hidden, (first + count) * hidden));
        const part = products.slice(first * 10, (first + count) * 10);
        expect(await groupedGemm(some, packed, end).data()).toEqual(part);
      }
    }
  }
});

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  test("packed experts keep their order, whatever becomes of the tensor that had it", async () => {
    const random = new Random("kept");
    const weight = randomQuantized(device(), random, "i8_channel_f32", [12, hidden], 0.1, [1]);
    const inputOrder = device().tensor(
      Int32Array.from({ length: hidden }, (_, k) => hidden - 1 - k),
      [1, hidden],
    );
    using packed = packExperts({ ...weight, inputOrder }, { tokenFormat: "int8" });
    using x = tokensOf(device(), 3, "f32");
    using offsets = device().tensor(Int32Array.of(0, 3));
    const before = await groupedGemm(x, packed, offsets).data();
    inputOrder.write(Int32Array.from({ length: hidden }, (_, k) => k));
    expect(await groupedGemm(x, packed, offsets).data()).toEqual(before);
  });

  test("an order alone gives the bits of weights in the order of the inputs, where groups are whole rows", async () => {
    // With one scale for a row, columns in another order only change the order of the sum.
    const random = new Random("bits");
    const weight = randomQuantized(device(), random, "i8_channel_f32", [12, hidden], 0.1, [1]);
    const identity = device().tensor(
      Int32Array.from({ length: hidden }, (_, k) => k),
      [1, hidden],
    );
    const ones = device().tensor(new Float32Array(hidden).fill(1), [1, hidden]);
    using x = tokensOf(device(), 9, "f32");
    using offsets = device().tensor(Int32Array.of(0, 9));
    const expected = await groupedGemm(x, weight, offsets).data();
    expect(await groupedGemm(x, { ...weight, inputOrder: identity }, offsets).data()).toEqual(expected);
    expect(await groupedGemm(x, { ...weight, inputScale: ones }, offsets).data()).toEqual(expected);
  });

  test("a captured forward and an uncaptured one have the same bits", async () => {
    for (const joined of [false, true]) {
      using layer = layerOf(device(), "both", joined);
      using captured = layer.capture(5);
      using x = tokensOf(device(), 5, "f32");
      captured.x.write(x.dataSync() as Float32Array);
      captured.replay();
      expect(await captured.y.data()).toEqual(await layer.forward(x).data());
    }
  });

  test("their memory is counted", () => {
    const weight = randomQuantized(device(), new Random(1), format, [32, hidden], 0.1, [2]);
    const bytes = (change: InputChange) => {
      using packed = packExperts({ ...weight, ...randomInputs(device(), new Random(2), change, hidden, [2]) });
      device().synchronizeSync();
      return packed.byteLength;
    };
    const own = bytes("none");
    if (name === "reference") return; // It keeps values.
    for (const change of ["scale", "order"] as const) {
      expect(bytes(change) - own).toBeGreaterThanOrEqual(2 * hidden * 4);
      expect(bytes(change) - own).toBeLessThan(2 * hidden * 4 + 64);
    }
  });

  test.each<[string, readonly number[], RegExp]>([
    ["an input that there is not", [0, 1, 2, hidden], /inputOrder\[3\].*expected from 0 to 71, got 72/],
    ["a negative input", [0, -1], /inputOrder\[1\].*expected from 0 to 71, got -1/],
    ["an input twice", [4, 5, 4], /inputOrder\[2\].*expected every input once, got 4/],
  ])("an order with %s is refused", (_, first, message) => {
    const weight = randomQuantized(device(), new Random(3), format, [4, hidden], 0.1, [1]);
    const order = Int32Array.from({ length: hidden }, (_, k) => first[k] ?? k);
    expectError(
      () => {
        using _ = packExperts({ ...weight, inputOrder: device().tensor(order, [1, hidden]) });
        device().synchronizeSync();
      },
      "INVALID_ARGUMENT",
      message,
    );
  });
});

const cpu = openForTests("cpu");

test("cpu keeps them in cache files", async () => {
  const device = cpu();
  const directory = join(import.meta.dirname, "../golden/quantised/gptq_act_order");
  using folder = temporaryDirectory();
  using x = device.tensor(new Random("cache").normals(5 * 64), [5, 64]);
  const outputs: number[][] = [];
  for (const state of ["written", "mapped"]) {
    using layer = await MoeLayer.load(directory, { layer: 0, device, cache: folder.path });
    expect(layer.cacheStatus?.state).toBe(state);
    outputs.push([...(await layer.forward(x).data())]);
    expect(readdirSync(folder.path)).toHaveLength(1);
  }
  expect(outputs[1]).toEqual(outputs[0]);
});
