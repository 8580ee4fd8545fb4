import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Shape } from "../../lib/core/tensors/shape.js";
import {
  type FloatDType,
  linear,
  MoeLayer,
  type MoeLayerOptions,
  packExperts,
  quantize,
  rmsNorm,
  type Tensor,
} from "../../lib/index.js";
import type { ExpertWeights } from "../../lib/layer/weights/expert_weights.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expertsOfBank, sumOfBanks } from "../support/banks.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { drawnTensor } from "../support/drawn_layer.js";
import { expectError } from "../support/errors.js";
import { expectForwardsOfOwnRouting } from "../support/forwards.js";

// Layers whose routed experts work on a projection of the tokens.

const [tokens, hidden, size, inner, width, experts, topK] = [12, 34, 20, 18, 27, 6, 2];
const latent = { latent: { size } } as const;
const norm = { latent: { size, norm: { epsilon: 0.01 } } } as const;
const shared = { sharedExpert: { intermediateSize: width } } as const;
const gated = { sharedExpert: { intermediateSize: width, gate: "sigmoid" } } as const;

const normals = (seed: string, length: number, scale = 1) => new Random(seed).normals(length, scale);

/** y [rows, outputs] = x wᵀ, in float64. */
function product(x: ArrayLike<number>, w: ArrayLike<number>, columns: number): Float64Array {
  const [rows, outputs] = [x.length / columns, w.length / columns];
  return Float64Array.from({ length: rows * outputs }, (_, index) => {
    const [row, output] = [Math.floor(index / outputs), index % outputs];
    let sum = 0;
    for (let k = 0; k < columns; k++) sum += (x[row * columns + k] as number) * (w[output * columns + k] as number);
    return sum;
  });
}

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);
  const drawn = <D extends FloatDType = "f32">(seed: string, shape: Shape, dtype?: D, scale?: number) =>
    drawnTensor(device(), seed, shape, dtype, scale);

  const optionsOf = (config: Partial<MoeLayerOptions>, dtype: FloatDType = "f32"): MoeLayerOptions => ({
    ...{ device: device(), hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK },
    activation: "relu2",
    router: drawn("router", [experts, hidden], dtype, 0.5),
    experts: {
      up: drawn("up", [experts, inner, size], dtype, 0.3),
      down: drawn("down", [experts, size, inner], dtype, 0.3),
    },
    latentDown: drawn("latent down", [size, hidden], dtype, 0.2),
    latentUp: drawn("latent up", [hidden, size], dtype, 0.2),
    ...(config.latent?.norm && { latentNormWeight: drawn("latent norm", [size], dtype) }),
    ...(config.sharedExpert && {
      shared: {
        up: drawn("shared up", [width, hidden], dtype, 0.3),
        down: drawn("shared down", [hidden, width], dtype),
      },
    }),
    ...(config.sharedExpert?.gate && { sharedGate: drawn("gate", [1, hidden], dtype) }),
    ...config,
  });
  const layerOf = (config: Partial<MoeLayerOptions>, dtype?: FloatDType) => MoeLayer.create(optionsOf(config, dtype));

  test.each([
    latent,
    { ...norm, ...shared },
    { ...latent, ...gated, scale: 5, scoring: "sigmoid", normalize: true },
  ] as const)("%o computes what its formula says", async (config) => {
    using layer = layerOf(config);
    const x = drawn("x", [tokens, hidden]);
    const { y, routing } = layer.forward(x, { want: ["routing"] });
    const [ids, weights] = [await routing.ids.data(), await routing.weights.data()];
    const all = (seed: string, length: number, scale = 1) => normals(seed, length, scale);
    const expert = (z: ArrayLike<number>, up: ArrayLike<number>, down: ArrayLike<number>, columns: number) =>
      product(
        product(z, up, columns).map((value) => Math.max(0, value) ** 2),
        down,
        up.length / columns,
      );
    const [ups, downs] = [all("up", experts * inner * size, 0.3), all("down", experts * size * inner, 0.3)];
    const expected: number[] = [];
    for (let token = 0; token < tokens; token++) {
      const row = all("x", tokens * hidden).subarray(token * hidden, (token + 1) * hidden);
      const z = product(row, all("latent down", size * hidden, 0.2), hidden);
      let sum: number[] = new Array(size).fill(0);
      for (let j = 0; j < topK; j++) {
        const [id, weight] = [ids[token * topK + j] as number, weights[token * topK + j] as number];
        const part = (matrices: Float32Array) => matrices.subarray(id * inner * size, (id + 1) * inner * size);
        const output = expert(z, part(ups), part(downs), size);
        sum = sum.map((value, index) => value + weight * (output[index] as number));
      }
      if ("norm" in config.latent) {
        const square = sum.reduce((total, value) => total + value * value, 0) / size;
        const factors = all("latent norm", size);
        sum = sum.map((value, index) => (value / Math.sqrt(square + 0.01)) * (factors[index] as number));
      }
      const back = product(sum, all("latent up", hidden * size, 0.2), size);
      let ofShared = new Float64Array(hidden);
      if ("sharedExpert" in config) {
        const [up, down] = [all("shared up", width * hidden, 0.3), all("shared down", hidden * width)];
        const gate =
          "gate" in config.sharedExpert ? (product(row, all("gate", hidden), hidden)[0] as number) : Infinity;
        ofShared = expert(row, up, down, hidden).map((value) => value / (1 + Math.exp(-gate)));
      }
      expected.push(...back.map((value, index) => value + (ofShared[index] as number)));
    }
    expect(relativeError(await y.data(), expected)).toBeLessThanOrEqual(2e-6);
  });

  test("is the composition of its operators, bit for bit", async () => {
    using layer = layerOf(norm, "bf16");
    const x = drawn("x", [tokens, hidden], "bf16");
    const routing = layer.route(x);
    const { experts: given, router: _, latentDown, latentUp, latentNormWeight, ...options } = optionsOf(norm, "bf16");
    const z = linear(x, latentDown as Tensor<"bf16">);
    using inside = MoeLayer.create({
      ...options,
      ...{ latent: undefined, hiddenSize: size, experts: given, router: drawn("any", [experts, size], "bf16") },
    });
    const sums = inside.forward(z, { routing });
    const normed = rmsNorm(sums, latentNormWeight as Tensor<"bf16">, { epsilon: 0.01 });
    const expected = linear(normed, latentUp as Tensor<"bf16">);
    expect(await layer.forward(x).raw()).toEqual(await expected.raw());
  });

  test.each(["f32", "bf16"] as const)("all options of a forward in %s", async (dtype) => {
    for (const config of [latent, { ...norm, ...shared }]) {
      using layer = layerOf(config, dtype);
      for (const shape of [
        [tokens, hidden],
        [3, 4, hidden],
        [0, hidden],
      ]) {
        const x = drawn("x", shape, dtype);
        await expectForwardsOfOwnRouting(layer, x);
        const weight = drawn("block", [hidden], dtype);
        const normed = layer.forward(rmsNorm(x.reshape([x.size / hidden, hidden]), weight));
        expect(await layer.forward(x, { norm: { weight } }).raw()).toEqual(await normed.raw());
        const given = drawn("residual", shape, "f32");
        for (const residual of [true, given] as const) {
          const added = await (residual === true ? x : given).data();
          const sum = (await layer.forward(x).data()).map((value, index) => value + (added[index] as number));
          const found = await layer.forward(x, { residual }).data();
          expect(relativeError(found, sum)).toBeLessThanOrEqual(dtype === "f32" ? 1e-6 : 1e-2);
        }
      }
    }
  });

  test.each([latent, { ...norm, ...gated }])("captured forwards of %o give the same bits", async (config) => {
    const layer = layerOf(config);
    using captured = layer.capture(tokens, { residual: true });
    for (const round of ["first", "second"]) {
      const x = drawn(round, [tokens, hidden]);
      captured.x.write(await x.data());
      captured.replay();
      expect(await captured.y.data()).toEqual(await layer.forward(x, { residual: true }).data());
    }
    layer.dispose();
    expectError(() => captured.replay(), "DISPOSED", /layer: used after dispose/);
  });

  test("banks add up to the layer", async () => {
    const config = { ...latent, ...gated, normalize: true };
    const x = drawn("x", [tokens, hidden]);
    const banks = [
      { first: 0, count: 2 },
      { first: 2, count: 4 },
    ];
    const sum = await sumOfBanks(banks, (bank) => {
      const { shared: _shared, sharedGate, experts: stacked, ...others } = optionsOf(config);
      const ofShared = bank.first === 0 && { shared: _shared, sharedGate };
      const own = expertsOfBank(stacked as ExpertWeights<Tensor<"f32">, Tensor<"f32">>, bank);
      return MoeLayer.create({ ...others, ...ofShared, experts: own, bank }).forward(x);
    });
    expect(relativeError(sum, await layerOf(config).forward(x).data())).toBeLessThanOrEqual(1e-6);
  });

  test("projections may be quantised, and are saved as they are", async () => {
    using directory = temporaryDirectory();
    const plain = optionsOf({ ...norm, ...shared });
    const latentDown = quantize(plain.latentDown as Tensor<"f32">, "int8");
    const given = MoeLayer.create({ ...plain, latentDown });
    expect(given.description.formats).toMatchObject({ latentDown: "i8_channel_f32", latentUp: "f32", up: "f32" });
    const asked = MoeLayer.create({ ...plain, dtype: { latent: "int8" } });
    expect(asked.description.formats).toMatchObject({ latentDown: "i8_channel_f32", latentUp: "i8_channel_f32" });
    const x = drawn("x", [tokens, hidden]);
    for (const layer of [given, asked]) {
      const path = join(directory.path, `${layer === given}.safetensors`);
      await layer.save(path);
      using loaded = await MoeLayer.load(path, { device: device() });
      expect(loaded.description).toEqual(layer.description);
      expect(await loaded.forward(x).data()).toEqual(await layer.forward(x).data());
    }
    using packed = packExperts({
      ...latentDown,
      codes: latentDown.codes.reshape([1, ...latentDown.codes.shape]),
      scales: (latentDown.scales as Tensor).reshape([1, ...(latentDown.scales as Tensor).shape]),
      columns: hidden,
    });
    const z = linear(x, packed);
    expect(z.shape).toEqual([tokens, size]);
    const floats = MoeLayer.create({ ...plain, latentDown, dtype: "f32" });
    expect(floats.description.formats.latentDown).toBe("f32");
    expect(relativeError(await floats.forward(x).data(), await given.forward(x).data())).toBeLessThanOrEqual(1e-5);
  });

  test.each([latent, { ...norm, ...shared }])("%o is saved and loaded", async (config) => {
    using directory = temporaryDirectory();
    const layer = layerOf(config, "bf16");
    const path = join(directory.path, "layer.safetensors");
    await layer.save(path);
    using loaded = await MoeLayer.load(path, { device: device() });
    expect(loaded.description).toEqual(layer.description);
    const x = drawn("x", [tokens, hidden], "bf16");
    expect(await loaded.forward(x).raw()).toEqual(await layer.forward(x).raw());
    expect(loaded.byteLength).toBe(layer.byteLength);
  });

  test("training changes everything that leads to the outputs", async () => {
    using layer = layerOf({ ...norm, ...gated });
    using parameters = layer.parameters();
    expect([...parameters].map(({ name }) => name).sort()).toEqual(
      [
        ...["experts.gateUp", "experts.down", "shared.gateUp", "shared.down", "router", "sharedGate"],
        ...["latentDown", "latentUp", "latentNormWeight"],
      ].sort(),
    );
    const x = drawn("x", [tokens, hidden]);
    const before = await layer.forward(x).data();
    for (const { name, value } of parameters) {
      const given = await value.data();
      value.write(given.map((one) => 1.5 * one));
      parameters.changed();
      expect(await layer.forward(x).data(), name).not.toEqual(before);
      value.write(given);
      parameters.changed();
    }
    expect(await layer.forward(x).data()).toEqual(before);
  });

  test("gradients are the same with recompute and offload, and are added to others", async () => {
    using layer = layerOf({ ...norm, ...gated }, "bf16");
    const [x, dy] = [drawn("x", [3, 4, hidden], "bf16"), drawn("dy", [3, 4, hidden], "bf16")];
    const run = async (options: object) => {
      const { y, state } = layer.forward(x, { save: true, ...options });
      const { dx, gradients } = layer.backward(state, dy);
      const { latentDown, latentUp, latentNormWeight, router, sharedGate } = gradients;
      const all = [y, dx, latentDown, latentUp, latentNormWeight, router, sharedGate, gradients.shared?.up] as Tensor[];
      return { gradients, values: await Promise.all(all.map((tensor) => tensor.data())) };
    };
    const { gradients, values } = await run({});
    const { values: again } = await run({ recompute: true });
    expect(relativeError(again[1] as Float32Array, values[1] as Float32Array)).toBeLessThanOrEqual(2e-2);
    expect((await run({ offload: true })).values).toEqual(values);
    const { state } = layer.forward(x, { save: true });
    layer.backward(state, dy, { gradients, accumulate: true });
    for (const [index, name] of (["latentDown", "latentUp", "latentNormWeight"] as const).entries()) {
      const twice = (values[index + 2] as Float32Array).map((value) => 2 * value);
      expect(relativeError(await (gradients[name] as Tensor).data(), twice)).toBeLessThanOrEqual(1e-6);
    }
    const routing = layer.route(x);
    const given = layer.forward(x, { routing, save: true });
    const ofGiven = layer.backward(given.state, dy);
    expect(ofGiven.gradients.router).toBeUndefined();
    expect(await ofGiven.gradients.latentUp?.data()).toEqual(values[3]);
  });

  test("quantised projections and experts are frozen", async () => {
    using layer = layerOf({ ...latent, ...shared, dtype: { latent: "int8", experts: "int8" } });
    const x = drawn("x", [tokens, hidden]);
    const { state } = layer.forward(x, { save: true });
    const { dx, gradients } = layer.backward(state, drawn("dy", [tokens, hidden]));
    expect(gradients.latentDown).toBeUndefined();
    expect(gradients.experts).toBeUndefined();
    expect((await dx.data()).every(Number.isFinite)).toBe(true);
    expect([...layer.parameters()].map(({ name }) => name)).toEqual(["router"]);
  });

  if (name === "simt")
    test("has the same bits with offload", async () => {
      const x = drawn("x", [tokens, hidden]);
      const layer = layerOf({ ...norm, ...shared, offload: { slots: 2 } });
      const expected = await layerOf({ ...norm, ...shared })
        .forward(x)
        .data();
      expect(await layer.forward(x).data()).toEqual(expected);
      expect((await layer.offload?.stats())?.slots).toBe(2);
      const unsupported = (call: () => unknown) => expectError(call, "UNSUPPORTED_OPERATION", /without offload/);
      unsupported(() => layer.forward(x, { save: true }));
      unsupported(() => layer.parameters());
    });

  test("what makes no sense is refused by name", () => {
    const bad = (config: Partial<MoeLayerOptions>, message: RegExp) =>
      expectError(() => layerOf(config), "INVALID_ARGUMENT", message);
    bad({ ...latent, latentUp: undefined }, /latentUp: expected a tensor for latent/);
    bad({ ...norm, latentNormWeight: undefined }, /latentNormWeight: expected a tensor for latent\.norm/);
    bad({ ...latent, latentNormWeight: drawn("n", [size]) }, /latentNormWeight requires latent\.norm/);
    const plain = { up: drawn("up", [experts, inner, hidden]), down: drawn("down", [experts, hidden, inner]) };
    bad({ experts: plain, latentUp: undefined }, /latentDown requires latent/);
    bad({ latent: { size: 0 } }, /latent\.size: expected an integer/);
    bad({ latent: { size, norm: { epsilon: 2 } } }, /latent\.norm\.epsilon: expected a number from 1e-30 to 1/);
    const softmax = { sharedExpert: { intermediateSize: width, gate: "softmax" } } as const;
    bad({ ...latent, ...softmax }, /sharedExpert\.gate "softmax" cannot be combined with latent/);
    bad({ ...latent, identityExperts: 1 }, /identityExperts cannot be combined with latent/);
    bad({ ...norm, bank: { first: 0, count: 2 }, experts: [{}, {}] as never }, /experts\[0\]\.up/);
    const half = { up: drawn("up", [3, inner, size]), down: drawn("down", [3, size, inner]) };
    bad({ ...norm, bank: { first: 0, count: 3 }, experts: half }, /bank: expected all 6 experts for latent\.norm/);
    const wrong = () => layerOf({ ...latent, latentDown: drawn("d", [hidden, size]) });
    expectError(wrong, "SHAPE_MISMATCH", /latentDown: expected shape \[20, 34\]/);
  });
});
