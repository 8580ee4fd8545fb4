import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Shape } from "../../lib/core/tensors/shape.js";
import {
  cast,
  type FloatDType,
  gating,
  MoeLayer,
  type MoeLayerOptions,
  rmsNorm,
  routerProjection,
  type Tensor,
} from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expertsOfBank, sumOfBanks } from "../support/banks.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { drawnExperts, drawnSizes, drawnTensor } from "../support/drawn_layer.js";
import { expectError } from "../support/errors.js";

// Layers whose router reads other tokens than the experts, normalises what it reads, or has experts with scales.

const { hidden, inner, experts } = drawnSizes;
const [tokens, topK] = [12, 2];
const own = { separateRouterInput: true } as const;
const norm = { routerNorm: { epsilon: 0.01, scale: hidden ** -0.5 } } as const;
const scales = { perExpertScale: true } as const;
const gemma = { ...own, ...norm, ...scales, normalize: true } as const;

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  const drawn = <D extends FloatDType = "f32">(seed: string, shape: Shape, dtype?: D, scale?: number) =>
    drawnTensor(device(), seed, shape, dtype, scale);
  const stacked = (dtype?: FloatDType) => drawnExperts(device(), experts, dtype);

  function layerOf(config: Partial<MoeLayerOptions>, dtype: FloatDType = "f32") {
    const router = drawn("router", [experts, hidden], dtype, 0.5);
    const routerNormWeight = drawn("norm", [hidden], dtype);
    const expertScale = drawn("scales", [experts], dtype);
    const layer = MoeLayer.create({
      ...{ device: device(), hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK },
      router,
      experts: stacked(dtype),
      ...(config.routerNorm && { routerNormWeight }),
      ...(config.perExpertScale && { expertScale }),
      ...config,
    });
    return { layer, router, routerNormWeight, expertScale };
  }

  test("jitter multiplies the normalised tokens, which are float32 whatever x is", async () => {
    const { layer } = layerOf({ ...norm, routerJitter: 0.3 }, "bf16");
    const x = drawn("x", [tokens, hidden], "bf16");
    const training = { seed: 5 };
    const [narrow, wide] = [x, cast(x, { dtype: "f32" })].map((each) => layer.route(each, { training }));
    expect(await narrow?.weights.data()).toEqual(await wide?.weights.data());
    expect(await narrow?.weights.data()).not.toEqual(await layer.route(x).weights.data());
  });

  test("the routing is the composition of its operators", async () => {
    const { layer, router, routerNormWeight, expertScale } = layerOf(gemma);
    const x = drawn("x", [tokens, hidden]);
    const scaled = (await routerNormWeight.data()).map((value) => value * Math.fround(gemma.routerNorm.scale));
    const normed = rmsNorm(x, device().tensor(scaled), { epsilon: 0.01 });
    const logits = routerProjection(normed, router);
    expect(relativeError(await layer.routerLogits(x).data(), await logits.data())).toBeLessThanOrEqual(1e-6);
    const { ids, weights } = layer.route(x);
    const unscaled = gating(logits, { topK, normalize: true });
    expect(await ids.data()).toEqual(await unscaled.ids.data());
    const [factors, plain] = [await expertScale.data(), await unscaled.weights.data()];
    const chosen = await ids.data();
    const products = plain.map((weight, slot) => weight * (factors[chosen[slot] as number] as number));
    expect(relativeError(await weights.data(), products)).toBeLessThanOrEqual(1e-6);
  });

  test.each([
    ["f32", own],
    ["bf16", own],
    ["bf16", gemma],
    ["f32", norm],
    ["f32", scales],
  ] as const)("in %s, %o: a forward is that of its routing", async (dtype, config) => {
    const { layer } = layerOf(config, dtype);
    for (const shape of [
      [tokens, hidden],
      [3, 4, hidden],
      [0, hidden],
    ]) {
      const x = drawn("x", shape, dtype);
      for (const readDType of ["f32", "f16", "bf16"] as const) {
        const routerInput = "separateRouterInput" in config ? drawn("read", shape, readDType) : undefined;
        const routing = layer.route(routerInput ?? x);
        const expected = await layer.forward(x, { routing }).raw();
        expect(await layer.forward(x, { routerInput }).raw()).toEqual(expected);
        const wanted = layer.forward(x, { routerInput, want: ["routing", "logits"] });
        expect(await wanted.y.raw()).toEqual(expected);
        expect(await wanted.routing.weights.data()).toEqual(await routing.weights.data());
        expect(await wanted.logits.data()).toEqual(await layer.routerLogits(routerInput ?? x).data());
      }
    }
  });

  test("the norm in front of the layer is the experts' alone, as in a block of Gemma 4", async () => {
    const { layer } = layerOf(gemma);
    const residual = drawn("x", [tokens, hidden]);
    const weight = drawn("block", [hidden]);
    const y = layer.forward(residual, { norm: { weight }, routerInput: residual });
    const expected = layer.forward(rmsNorm(residual, weight), { routerInput: residual });
    expect(await y.data()).toEqual(await expected.data());
  });

  test.each([own, gemma, norm, scales])("captured forwards of %o give the same bits", async (config) => {
    const { layer } = layerOf(config);
    using captured = layer.capture(tokens);
    expect(captured.routerInput?.shape).toEqual("separateRouterInput" in config ? [tokens, hidden] : undefined);
    for (const round of ["first", "second"]) {
      const x = drawn(round, [tokens, hidden]);
      const read = drawn(`${round} read`, [tokens, hidden]);
      captured.x.write(await x.data());
      captured.routerInput?.write(await read.data());
      captured.replay();
      const y = layer.forward(x, captured.routerInput && { routerInput: read });
      expect(await captured.y.data()).toEqual(await y.data());
    }
  });

  test("gradients are the same with recompute and offload, and are added to others", async () => {
    const { layer } = layerOf(gemma, "bf16");
    const [x, dy] = [drawn("x", [3, 4, hidden], "bf16"), drawn("dy", [3, 4, hidden], "bf16")];
    const routerInput = drawn("read", [3, 4, hidden], "f16");
    const run = async (options: object) => {
      const { state } = layer.forward(x, { routerInput, save: true, ...options });
      const { dx, dRouterInput, gradients } = layer.backward(state, dy);
      expect([dRouterInput?.shape, dRouterInput?.dtype]).toEqual([[3, 4, hidden], "f16"]);
      const { expertScale, routerNormWeight, router } = gradients;
      const all = [dx, dRouterInput, expertScale, routerNormWeight, router] as Tensor[];
      return { gradients, values: await Promise.all(all.map((tensor) => tensor.data())) };
    };
    const { gradients, values } = await run({});
    expect((await run({ recompute: true })).values).toEqual(values);
    expect((await run({ offload: true })).values).toEqual(values);
    const { state } = layer.forward(x, { routerInput, save: true });
    layer.backward(state, dy, { gradients, accumulate: true });
    const twice = await Promise.all(
      [gradients.expertScale, gradients.routerNormWeight].map(async (tensor) => await (tensor as Tensor).data()),
    );
    expect(twice).toEqual([values[2], values[3]].map((value) => (value as Float32Array).map((one) => 2 * one)));
    const routing = layer.route(routerInput);
    const given = layer.forward(x, { routing, save: true });
    expect(layer.backward(given.state, dy).dRouterInput).toBeUndefined();
  });

  test("banks add up to the layer", async () => {
    const { layer } = layerOf(gemma);
    const [x, routerInput] = [drawn("x", [tokens, hidden]), drawn("read", [tokens, hidden])];
    const banks = [
      { first: 0, count: 2 },
      { first: 2, count: 4 },
    ];
    const sum = await sumOfBanks(banks, (bank) =>
      layerOf({ ...gemma, bank, experts: expertsOfBank(stacked(), bank) }).layer.forward(x, { routerInput }),
    );
    expect(relativeError(sum, await layer.forward(x, { routerInput }).data())).toBeLessThanOrEqual(1e-6);
  });

  test("is saved and loaded, with and without a weight of the norm", async () => {
    using directory = temporaryDirectory();
    const [x, routerInput] = [drawn("x", [tokens, hidden]), drawn("read", [tokens, hidden])];
    for (const changes of [{}, { routerNormWeight: undefined }]) {
      const { layer } = layerOf({ ...gemma, ...changes });
      const path = join(directory.path, `${Object.keys(changes).length}.safetensors`);
      await layer.save(path);
      using loaded = await MoeLayer.load(path, { device: device() });
      expect(loaded.description).toEqual(layer.description);
      expect(await loaded.forward(x, { routerInput }).data()).toEqual(await layer.forward(x, { routerInput }).data());
    }
  });

  test("training changes what scales inputs and weights", async () => {
    const { layer, routerNormWeight, expertScale } = layerOf(gemma);
    const read = drawn("read", [tokens, hidden]);
    const before = layer.route(read);
    using parameters = layer.parameters();
    expect([...parameters].map(({ name }) => name)).toEqual(
      expect.arrayContaining(["router", "routerNormWeight", "expertScale"]),
    );
    const { weights } = parameters;
    expect(await weights.routerNormWeight?.data()).toEqual(await routerNormWeight.data());
    expect(await weights.expertScale?.data()).toEqual(await expertScale.data());
    weights.expertScale?.write((await expertScale.data()).map((value) => 2 * value));
    parameters.changed();
    const after = layer.route(read);
    const doubled = (await before.weights.data()).map((value) => 2 * value);
    expect(await after.weights.data()).toEqual(doubled);
    weights.routerNormWeight?.write(new Float32Array(hidden));
    parameters.changed();
    expect(await layer.routerLogits(read).data()).toEqual(new Float32Array(tokens * experts));
  });

  if (name === "simt")
    test("has the same bits with offload", async () => {
      const [x, routerInput] = [drawn("x", [tokens, hidden]), drawn("read", [tokens, hidden])];
      const { layer: whole } = layerOf(gemma);
      const { layer } = layerOf({ ...gemma, offload: { slots: 2 } });
      const expected = await whole.forward(x, { routerInput }).data();
      expect(await layer.forward(x, { routerInput }).data()).toEqual(expected);
    });

  test("what makes no sense is refused by name", () => {
    const [x, routerInput] = [drawn("x", [tokens, hidden]), drawn("read", [tokens, hidden])];
    const { layer } = layerOf(gemma);
    const { layer: plain } = layerOf({});
    const bad = (call: () => unknown, message: RegExp) => expectError(call, "INVALID_ARGUMENT", message);
    bad(() => layer.forward(x), /routerInput: expected the tokens that this layer's router reads, shaped like x/);
    bad(() => layer.forward(x, { save: true }), /routerInput: expected the tokens/);
    bad(() => plain.forward(x, { routerInput }), /routerInput requires a layer with separateRouterInput/);
    const routing = layer.route(routerInput);
    bad(() => layer.forward(x, { routerInput, routing }), /routerInput cannot be combined with routing/);
    bad(() => layer.forward(x, { routing, want: ["logits"] }), /routerInput: expected the tokens/);
    layer.forward(x, { routerInput, routing, want: ["logits"] });
    bad(() => layer.forward(x, { routerInput: [1] as unknown as Tensor<"f32"> }), /routerInput: expected a Tensor/);
    const other = drawn("other", [tokens, 2]);
    expectError(() => layer.forward(x, { routerInput: other }), "SHAPE_MISMATCH", /routerInput: expected shape/);
    bad(() => layer.forward(x, { routerInput, out: routerInput }), /out/);
    bad(() => layerOf({ ...scales, expertScale: undefined }), /expertScale: expected a tensor for perExpertScale/);
    bad(() => layerOf({ expertScale: drawn("s", [experts]) }), /expertScale requires perExpertScale/);
    bad(() => layerOf({ routerNormWeight: drawn("n", [hidden]) }), /routerNormWeight requires routerNorm/);
    bad(() => layerOf({ routerNorm: { epsilon: 2 } }), /routerNorm\.epsilon: expected a number from 1e-30 to 1/);
    bad(() => layerOf({ routerNorm: { scale: Number.NaN } }), /routerNorm\.scale: expected a finite number/);
    const wrong = () => layerOf({ ...scales, expertScale: drawn("s", [2]) });
    expectError(wrong, "SHAPE_MISMATCH", /expertScale: expected shape \[6\]/);
  });
});
