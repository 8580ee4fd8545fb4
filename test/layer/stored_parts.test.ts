import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, writeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import { MoeLayer } from "../../lib/index.js";
import { LayerParts } from "../../lib/layer/layer_parts.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { exampleConfig, RandomLayer } from "../support/random_layer.js";

describe("a layer over stored parts", () => {
  const device = openForTests("cpu");

  const problem = {
    config: exampleConfig,
    tokens: 9,
    dtype: "f16",
    seed: 7,
  } as const;

  test("of every kind gives the same bits, and cannot be changed", () => {
    const sharedExpert = { intermediateSize: 40, gate: "softmax" } as const;
    const config = { ...exampleConfig, multiplier: true, sharedExpert };
    using random = new RandomLayer(device(), { ...problem, config, biases: true, selectionBias: true });
    using y = random.layer.forward(random.x);
    const expected = y.rawSync();
    const parts = random.parts.onDevice.handle.parts();
    const matrices = ["down", "multiplier", "gate_up", "router", "shared_gate"];
    const biases = ["down_bias", "gate_up_bias", "router_bias", "selection_bias", "shared_gate_bias"];
    expect(Object.keys(parts).sort()).toEqual([...matrices, ...biases].sort());
    const storedParts = new LayerParts(device(), random.layer.description, { stored: parts });
    using stored = new MoeLayer(storedParts);
    for (const part of Object.values(parts)) part.free();
    random.layer.dispose();
    using same = stored.forward(random.x);
    expect(same.rawSync()).toEqual(expected);
    const bias = device().zeros([config.numExperts], "f32");
    for (const change of [() => storedParts.router.weights.set(random.router), () => stored.setSelectionBias(bias)]) {
      expectError(
        change,
        "UNSUPPORTED_OPERATION",
        /: expected a layer with weights of its own, got one with those of a/,
      );
    }
    for (const experts of [true, false]) {
      const message = /^parameters: expected a layer with weights of its own/;
      expectError(() => stored.parameters({ experts }), "UNSUPPORTED_OPERATION", message);
    }
    using still = stored.forward(random.x);
    expect(still.rawSync()).toEqual(expected);
  });

  test("needs exactly its parts, in the right sizes", () => {
    using random = new RandomLayer(device(), problem);
    device().synchronizeSync();
    const { description } = random.layer;
    const { router, gate_up, down } = random.parts.onDevice.handle.parts() as Record<string, never>;
    const over = (parts: object) => () => new LayerParts(device(), description, { stored: parts as never });
    expectError(over({ router, gate_up }), "INVALID_ARGUMENT", /^stored weights: expected down$/);
    expectError(over({ router, gate_up, down: router }), "INVALID_ARGUMENT", /expected \d+ bytes of down, got \d+$/);
    expectError(over({ router, gate_up, down, down_bias: router }), "INVALID_ARGUMENT", /bytes of down_bias, got/);
    expectError(
      over({ router, gate_up, down, more: router }),
      "INVALID_ARGUMENT",
      /expected only the parts of this layer/,
    );
  });

  test("a truncated file is not mapped", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    await writeSafetensors(path, { a: { dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) } });
    await using file = await SafetensorsFile.open(path);
    const { size } = statSync(path);
    const map = (bytes: number) => () => device().backend.mapFile(file.descriptor, path, bytes);
    expectError(map(0), "INVALID_ARGUMENT", /expected bytes to map, got 0/);
    for (const bytes of [size + 1, -1]) {
      expectError(map(bytes), "BAD_CHECKPOINT", /the file was truncated after it was opened; load the layer again/);
    }
    const mapped = map(size)();
    expect(new Uint8Array(mapped.readSync(false))).toEqual(new Uint8Array(readFileSync(path)));
    mapped.free();
  });
});
