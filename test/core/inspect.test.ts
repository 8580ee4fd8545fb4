import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { Tensor } from "../../lib/core/tensors/tensor.js";
import { openDevice } from "../../lib/devices.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { packExperts } from "../../lib/operators/experts/packed_experts.js";
import { permute } from "../../lib/operators/experts/permute.js";
import { AdamW } from "../../lib/optimizers/adamw.js";
import { SGD } from "../../lib/optimizers/sgd.js";
import { RouterStats } from "../../lib/statistics/router_stats.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

describe.each(deviceNames)("util.inspect on %s", (name) => {
  const device = openForTests(name);
  const floats = (...shape: number[]) => device().zeros(shape, "f32");
  const layerOf = () =>
    MoeLayer.create({
      device: device(),
      hiddenSize: 4,
      intermediateSize: 3,
      numExperts: 2,
      topK: 1,
      activation: "relu",
      capacity: { factor: 1 },
      router: floats(2, 4),
      experts: { up: floats(2, 3, 4), down: floats(2, 4, 3) },
    });

  test("leaves the error of earlier work to the next wait", async () => {
    const bad = device().tensor(Int32Array.of(7));
    const rows = permute(floats(2, 2), bad);
    for (const tensor of [rows, bad, floats(3)]) expect(inspect(tensor)).toMatch(/^Tensor</);
    await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", /tokenOfRow/);
    await device().synchronize();
  });

  // A GPU's memory cannot be read without waiting for the GPU.
  if (!name.startsWith("cuda"))
    test("shows values once the work is done, and none while it is not", async () => {
      const rows = permute(device().tensor([[1, 2]]), device().tensor(Int32Array.of(0)));
      const head = `Tensor<f32> [1, 2] on ${device().name}`;
      expect([head, `${head} [ [ 1, 2 ] ]`]).toContain(inspect(rows));
      await device().synchronize();
      expect(inspect(rows)).toBe(`${head} [ [ 1, 2 ] ]`);
      expect(inspect(device().tensor([0.5, Number.NaN], [2], "f16"))).toMatch(/\[ 0\.5, NaN \]$/);
      expect(inspect(device().empty([0, 3], "f16"))).toMatch(/\[\]$/);
      expect(inspect(device().tensor(new Float32Array(1000)))).toMatch(/\]$/);
      expect(inspect(device().tensor(new Float32Array(1001)))).toBe(`Tensor<f32> [1001] on ${device().name}`);
    });

  test("says what is disposed", () => {
    const other = openDevice(name);
    const tensor = other.tensor([1, 2]);
    const packed = packExperts(other.zeros([1, 2, 2], "f32"));
    expect(inspect(packed)).toBe(`PackedExperts<f32> [1, 2, 2] for none on ${name}`);
    other.dispose();
    expect(inspect(tensor)).toBe(`Tensor<f32> [2] on ${name} (disposed)`);
    expect(inspect(packed)).toBe(`PackedExperts<f32> [1, 2, 2] for none on ${name} (disposed)`);
    expect(inspect(other)).toMatch(new RegExp(`^Device ${name}: .* \\(disposed\\)$`));
  });

  test("of devices, layers and captures is one line", () => {
    const layer = layerOf();
    const captured = layer.capture(3);
    expect(inspect(device())).toBe(`Device ${device().name}: ${device().description}`);
    const text = `MoeLayer<f32> top 1 of 2 experts, hiddenSize 4, intermediateSize 3 on ${device().name}`;
    expect(inspect(layer)).toBe(text);
    expect(inspect(captured)).toBe(`CapturedForward<f32> [3, 4] on ${device().name}`);
    captured.dispose();
    layer.dispose();
    expect(inspect(layer)).toBe(`${text} (disposed)`);
    expect(inspect(captured)).toBe(`CapturedForward<f32> [3, 4] on ${device().name} (disposed)`);
  });

  test("of router stats is one line", () => {
    const stats = new RouterStats(device(), { numExperts: 4 });
    stats.record(floats(2, 4), { ids: device().zeros([2, 1], "i32") });
    const text = `RouterStats of 4 experts, calls: 1, on ${device().name}`;
    expect(inspect({ stats })).toBe(`{ stats: ${text} }`);
    stats.dispose();
    expect(inspect(stats)).toBe(`${text} (disposed)`);
  });

  test("of optimisers is one line", () => {
    const parameters = [{ name: "a", value: floats(2), gradient: floats(2) }];
    for (const [kind, optimizer] of [
      ["AdamW", new AdamW(parameters, { learningRate: 0.5 })],
      ["SGD", new SGD(parameters, { learningRate: 0.5, momentum: 0.9 })],
    ] as const) {
      optimizer.step();
      const text = `${kind} with parameters: 1, steps: 1, learning rate: 0.5, on ${device().name}`;
      expect(inspect(optimizer)).toBe(text);
      optimizer.dispose();
      expect(inspect(optimizer)).toBe(`${text} (disposed)`);
    }
  });

  test("read-only fields cannot be assigned", () => {
    using layer = layerOf();
    const tensor = floats(2, 2);
    using packed = packExperts(floats(2, 2, 2));
    const fields: [object, readonly string[]][] = [
      [tensor, ["device", "dtype", "shape"]],
      [tensor.shape, ["0", "length"]],
      [packed, ["device", "dtype", "shape", "activation"]],
      [packed.shape, ["0"]],
      [layer, ["device", "description"]],
      [layer.description, ["numExperts", "weightDType", "other"]],
      [layer.description.clamp, ["limit"]],
      [layer.description.capacity as object, ["factor"]],
      [device(), ["name", "kind", "description"]],
    ];
    for (const [object, names] of fields) {
      for (const field of names) {
        const before = Reflect.get(object, field);
        expect(() => Object.assign(object, { [field]: [64, 1] })).toThrow(TypeError);
        expect(Reflect.get(object, field)).toBe(before);
      }
    }
  });

  test("an object that only looks like a tensor is not one", () => {
    const lookalike = Object.create(Tensor.prototype);
    expectError(
      () => permute(lookalike, lookalike),
      "INVALID_ARGUMENT",
      /^x: expected a Tensor, got .* another class Tensor/,
    );
    expectError(() => permute(new Proxy(floats(1, 1), {}), lookalike), "INVALID_ARGUMENT", /^x: expected a Tensor/);
  });
});
