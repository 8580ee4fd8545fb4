import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { TokenFormat } from "../../lib/core/formats/token_format.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomInputs, randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { deviceNames, kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

// Layers with rounded tokens are among the cases of lib/testing/cases/token_formats.ts.

const [hidden, inner, experts] = [160, 96, 3];

/** A layer whose last expert also scales and orders its inputs. */
function layerOf(device: Device, format: string, tokenFormat: TokenFormat, downFormat = format): MoeLayer {
  const random = new Random(format);
  const matrix = (rows: number, columns: number, change: "none" | "both", stored = format) => ({
    ...randomQuantized(device, random, stored, [rows, columns]),
    ...randomInputs(device, random, change, columns),
  });
  const list = Array.from({ length: experts }, (_, expert) => {
    const change = expert + 1 < experts ? "none" : "both";
    return {
      gate: matrix(inner, hidden, change),
      up: matrix(inner, hidden, change),
      down: matrix(hidden, inner, change, downFormat),
    };
  });
  const router = device.tensor(random.normals(experts * hidden), [experts, hidden]);
  const config = { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 2 } as const;
  return MoeLayer.create({ ...config, device, router, experts: list, tokenFormat });
}

const tokensOf = (device: Device, count: number, dtype: FloatDType) =>
  device.tensor(new Random("tokens").normals(count * hidden), [count, hidden], dtype);

test.each(kernelPaths)("on $label a token's bits do not depend on its batch", async (path) => {
  using device = path.open();
  for (const [format, tokenFormat] of [
    ["i8_channel_f32", "int8"],
    ["i4_g32_bf16", "fp8"],
    ["e4m3_b128_f32", "fp8"],
  ] as const) {
    using layer = layerOf(device, format, tokenFormat);
    for (const dtype of ["f32", "bf16"] as const) {
      using x = tokensOf(device, 150, dtype);
      const all = await layer.forward(x).data();
      for (const [first, count] of [
        [0, 1],
        [7, 12],
        [90, 60],
      ] as const) {
        using some = x.rows(first, first + count);
        expect(await layer.forward(some).data()).toEqual(all.slice(first * hidden, (first + count) * hidden));
      }
    }
  }
});

// The products of gate and up are integers, those of down are not, and their kernels may take tiles of other heights: 17
// rows are then tiles of 9 and of 8.
test.each(kernelPaths)("on $label nor do they if down has another format than gate and up", async (path) => {
  using device = path.open();
  using layer = layerOf(device, "i4_g32_bf16", "int8", "e4m3_b128_f32");
  using x = tokensOf(device, 17, "f32");
  const routingOf = (count: number) => ({
    ids: device.tensor(
      Int32Array.from({ length: 2 * count }, (_, index) => index % 2),
      [count, 2],
    ),
    weights: device.tensor(new Float32Array(2 * count).fill(0.5), [count, 2]),
  });
  const all = await layer.forward(x, { routing: routingOf(17) }).data();
  for (let token = 0; token < 17; token++) {
    using one = x.rows(token, token + 1);
    const alone = await layer.forward(one, { routing: routingOf(1) }).data();
    expect(alone).toEqual(all.slice(token * hidden, (token + 1) * hidden));
  }
});

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  test("rounding changes results a little, and the routing not at all", async () => {
    using x = tokensOf(device(), 20, "f32");
    const outputs = new Map<TokenFormat, ArrayLike<number>>();
    for (const tokenFormat of ["none", "int8", "fp8"] as const) {
      using layer = layerOf(device(), "i8_channel_f32", tokenFormat);
      outputs.set(tokenFormat, await layer.forward(x).data());
    }
    const exact = Array.from(outputs.get("none") as ArrayLike<number>);
    const norm = (values: readonly number[]) => Math.hypot(...values);
    const error = (tokenFormat: TokenFormat) => {
      const rounded = outputs.get(tokenFormat) as ArrayLike<number>;
      return norm(exact.map((value, index) => value - (rounded[index] as number))) / norm(exact);
    };
    // Units of 1/127 of a row's largest value; of e4m3, 1/8 to 1/16 of the value.
    expect(error("int8")).toBeGreaterThan(1e-3);
    expect(error("int8")).toBeLessThan(3e-2);
    expect(error("fp8")).toBeGreaterThan(1e-2);
    expect(error("fp8")).toBeLessThan(1e-1);
    using plain = layerOf(device(), "i8_channel_f32", "none");
    using rounded = layerOf(device(), "i8_channel_f32", "int8");
    expect(await rounded.routerLogits(x).data()).toEqual(await plain.routerLogits(x).data());
    expect(await rounded.route(x).ids.data()).toEqual(await plain.route(x).ids.data());
  });

  test("a captured forward and an uncaptured one have the same bits", async () => {
    for (const [format, tokenFormat] of [
      ["i4_g32_bf16", "int8"],
      ["e4m3_b128_f32", "fp8"],
    ] as const) {
      using layer = layerOf(device(), format, tokenFormat);
      using captured = layer.capture(5);
      using x = tokensOf(device(), 5, captured.x.dtype);
      captured.x.write((await x.data()) as Float32Array);
      captured.replay();
      expect(await captured.y.data()).toEqual(await layer.forward(x).data());
    }
  });

  test("a token that is not finite is NaN, and the others are as without it", async () => {
    using layer = layerOf(device(), "i8_channel_f32", "int8");
    using x = tokensOf(device(), 4, "f32");
    const values = (await x.data()) as Float32Array;
    const ids = device().tensor(Int32Array.of(0, 1, 0, 1, 0, 1, 0, 1), [4, 2]);
    const routing = { ids, weights: device().tensor(new Float32Array(8).fill(0.5), [4, 2]) };
    const before = await layer.forward(x, { routing }).data();
    values[hidden + 3] = Number.POSITIVE_INFINITY;
    values[2 * hidden] = Number.NaN;
    x.write(values);
    const after = await layer.forward(x, { routing }).data();
    for (const token of [0, 3]) {
      const row = [token * hidden, (token + 1) * hidden] as const;
      expect(after.slice(...row)).toEqual(before.slice(...row));
    }
    expect(after.slice(hidden, 3 * hidden).every(Number.isNaN)).toBe(true);
  });
});

describe("token formats of layers", () => {
  const device = openForTests("cpu");

  test("are part of the description, and told", () => {
    using layer = layerOf(device(), "i8_channel_f32", "int8");
    expect(layer.description.tokenFormat).toBe("int8");
    expect(inspect(layer)).toContain("int8 tokens");
    using plain = layerOf(device(), "i8_channel_f32", "none");
    expect(plain.description.tokenFormat).toBe("none");
    expect(inspect(plain)).not.toContain("tokens");
  });

  test("need a quantised matrix", () => {
    const random = new Random("plain");
    const plain = (rows: number, columns: number) =>
      device().tensor(random.normals(rows * columns), [rows, columns], "bf16");
    const create = (dtype?: "int8") =>
      MoeLayer.create({
        device: device(),
        hiddenSize: 32,
        intermediateSize: 32,
        numExperts: 1,
        topK: 1,
        router: plain(1, 32),
        experts: [{ gate: plain(32, 32), up: plain(32, 32), down: plain(32, 32) }],
        tokenFormat: "int8",
        ...(dtype && { dtype }),
      });
    expectError(
      create,
      "INVALID_ARGUMENT",
      /tokenFormat: expected "none" with weights that are not quantised \(bf16\), got "int8"/,
    );
    create("int8").dispose();
  });

  test("need one that the experts have", () => {
    const floats = (...shape: number[]) =>
      device().tensor(new Random("ungated").normals(shape.reduce((size, n) => size * n, 1)), shape, "bf16");
    const create = (tokenFormat: TokenFormat) =>
      MoeLayer.create({
        ...{ device: device(), hiddenSize: 32, intermediateSize: 32, numExperts: 2, topK: 1, activation: "relu" },
        router: floats(2, 32),
        experts: { up: floats(2, 32, 32), down: floats(2, 32, 32) },
        dtype: { gate: "int8", multiplier: "int8" },
        tokenFormat,
      });
    expectError(() => create("int8"), "INVALID_ARGUMENT", /tokenFormat: .*not quantised \(bf16\)/);
    using layer = create("none");
    using parameters = layer.parameters();
    expect(Array.from(parameters, ({ name }) => name)).toContain("experts.gateUp");
  });
});
