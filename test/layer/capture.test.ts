import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { Device } from "../../lib/core/device/device.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { openDevice } from "../../lib/devices.js";
import type { CapturedForward } from "../../lib/layer/forward/captured_forward.js";
import type { MoeLayer } from "../../lib/moe_layer.js";
import { unpermute } from "../../lib/operators/experts/permute.js";
import { sort } from "../../lib/operators/routing/sort.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";
import { anyLayer, exampleConfig, type LayerProblem, RandomLayer } from "../support/random_layer.js";

const floats = ["f32", "f16", "bf16"] as const;

const example: LayerProblem = {
  config: exampleConfig,
  tokens: 9,
  dtype: "f32",
  seed: 1,
};

describe.each(deviceNames)("captured forwards on %s", (name) => {
  const device = openForTests(name);

  const tokensOf = (captured: CapturedForward, random: Random) => random.normals(captured.x.size, 1);
  const replayed = (captured: CapturedForward, values: Float32Array) => {
    captured.x.write(values);
    captured.replay();
    return captured.y.rawSync();
  };
  const forward = <D extends FloatDType>(layer: MoeLayer, captured: CapturedForward<D>, values: Float32Array) => {
    using x = device().tensor(values, captured.x.shape, captured.x.dtype);
    using y = layer.forward(x);
    return y.rawSync();
  };

  test("give the same bits as forward, for one input after another", () => {
    fc.assert(
      fc.property(anyLayer, fc.constantFrom(...floats), (problem, dtype) => {
        using random = new RandomLayer(device(), problem);
        using captured = random.layer.capture(problem.tokens, { dtype });
        expect(captured.x).toMatchObject({ dtype, shape: random.x.shape });
        expect(captured.y).toMatchObject({ dtype, shape: random.x.shape });
        const draw = new Random(problem.seed);
        for (let round = 0; round < 3; round++) {
          const values = tokensOf(captured, draw);
          expect(replayed(captured, values)).toEqual(forward(random.layer, captured, values));
        }
      }),
      { numRuns: 15 },
    );
  });

  test("give the same bits as forward when the sort takes several blocks", () => {
    const weightOn = "input";
    const config = { ...example.config, multiplier: true, weightOn, sharedExpert: { intermediateSize: 30 } } as const;
    using random = new RandomLayer(device(), { ...example, config, tokens: 2500 });
    using captured = random.layer.capture(2500);
    const values = tokensOf(captured, new Random(7));
    expect(replayed(captured, values)).toEqual(forward(random.layer, captured, values));
  });

  test.each<Partial<LayerProblem["config"]>>([
    { capacity: { factor: 0.7 } },
    { capacity: { tokens: 2, per: "sequence", drop: "probability", renormalize: true } },
    { expertChoice: { factor: 2 }, topK: exampleConfig.numExperts, normalize: false },
  ])("route anew with %o", (changes) => {
    const random = new RandomLayer(device(), { ...example, config: { ...example.config, ...changes } });
    using captured = random.layer.capture(example.tokens);
    const draw = new Random(4);
    for (let round = 0; round < 3; round++) {
      const values = tokensOf(captured, draw);
      expect(replayed(captured, values)).toEqual(forward(random.layer, captured, values));
    }
    random[Symbol.dispose]();
    expectError(() => captured.replay(), "DISPOSED", /layer: used after dispose/);
    using none = new RandomLayer(device(), { ...example, config: { ...example.config, ...changes } });
    using empty = none.layer.capture(0);
    empty.replay();
    expect(empty.y.dataSync()).toEqual(new Float32Array(0));
  });

  test.each(floats)("have tensors of the weights' dtype: %s", (dtype) => {
    using random = new RandomLayer(device(), { ...example, dtype });
    using captured = random.layer.capture(1);
    expect([captured.x.dtype, captured.y.dtype]).toEqual([dtype, dtype]);
  });

  test("replay in order with the work around them, without a wait in between", async () => {
    using random = new RandomLayer(device(), example);
    using captured = random.layer.capture(example.tokens);
    const draw = new Random(3);
    const inputs = Array.from({ length: 4 }, () => tokensOf(captured, draw));
    const results = inputs.map((values) => {
      captured.x.write(values);
      captured.replay();
      return captured.y.raw();
    });
    const expected = inputs.map((values) => forward(random.layer, captured, values));
    expect(await Promise.all(results)).toEqual(expected);
  });

  test("take x from an operator, and again from the replay before", () => {
    using random = new RandomLayer(device(), example);
    using captured = random.layer.capture(example.tokens);
    const { tokens, config } = example;
    const ids = device().tensor(
      Int32Array.from({ length: tokens }, (_, token) => token % 3),
      [tokens, 1],
    );
    const { rowOfSlot } = sort(ids, { numExperts: 3 });
    const slots = captured.x.reshape([tokens, 1, config.hiddenSize]);
    let source = random.x;
    for (let round = 0; round < 2; round++) {
      unpermute(source, rowOfSlot, { out: slots });
      captured.replay();
      using x = device().tensor(captured.x.rawSync(), captured.x.shape, captured.x.dtype);
      using expected = random.layer.forward(x);
      expect(captured.y.rawSync()).toEqual(expected.rawSync());
      source = captured.y;
    }
  });

  test("compute with the weights that the layer has by then, and with a selection bias that it had not", () => {
    using random = new RandomLayer(device(), example);
    const { layer } = random;
    using captured = layer.capture(example.tokens);
    const draw = new Random(5);
    const check = () => {
      const values = tokensOf(captured, draw);
      const before = replayed(captured, values);
      expect(before).toEqual(forward(layer, captured, values));
      return { values, before };
    };
    const { values, before } = check();
    const { numExperts } = layer.description;
    using bias = device().tensor(Float32Array.from({ length: numExperts }, (_, expert) => 10 * expert));
    layer.setSelectionBias(bias);
    expect(replayed(captured, values)).not.toEqual(before);
    check();
    using parameters = layer.parameters();
    for (const { value } of parameters) value.write(draw.normals(value.size, 0.1));
    parameters.changed();
    check();
    bias.write(new Float32Array(numExperts));
    layer.setSelectionBias(bias);
    check();
  });

  test("do not interfere: several of one layer and of different layers at once", () => {
    using one = new RandomLayer(device(), example);
    using two = new RandomLayer(device(), { ...example, seed: 2, config: { ...example.config, topK: 3 } });
    const layers = [one.layer, one.layer, one.layer, two.layer];
    const all = [4, 4, 300, 9].map((tokens, index) => (layers[index] as MoeLayer).capture(tokens));
    const draw = new Random(5);
    for (let round = 0; round < 2; round++) {
      const inputs = all.map((captured) => tokensOf(captured, draw));
      all.forEach((captured, index) => {
        captured.x.write(inputs[index] as Float32Array);
      });
      for (const captured of all) captured.replay();
      all.forEach((captured, index) => {
        const expected = forward(layers[index] as MoeLayer, captured, inputs[index] as Float32Array);
        expect(captured.y.rawSync()).toEqual(expected);
      });
    }
    for (const captured of all) captured.dispose();
  });

  test("keep what they need: the layer, its weights and views of x and y may be disposed of", () => {
    const random = new RandomLayer(device(), example);
    using captured = random.layer.capture(example.tokens);
    const values = tokensOf(captured, new Random(11));
    const expected = forward(random.layer, captured, values);
    captured.x.write(values);
    using y = captured.y.reshape([captured.y.size]);
    captured.x.dispose();
    captured.y.dispose();
    random[Symbol.dispose]();
    for (let i = 0; i < 20; i++) device().zeros([example.tokens, example.config.hiddenSize], "f32").dispose();
    captured.replay();
    expect(y.rawSync()).toEqual(expected);
  });

  test("neither report nor hide errors in other work's ids", () => {
    using random = new RandomLayer(device(), example);
    using captured = random.layer.capture(example.tokens);
    captured.x.write(tokensOf(captured, new Random(13)));
    const bad = device().tensor(Int32Array.of(0, 9), [2, 1]);
    captured.replay();
    sort(bad, { numExperts: 3 });
    captured.replay();
    expectError(() => device().synchronizeSync(), "ID_OUT_OF_RANGE", /sort: ids\[1, 0\]: .*got 9/);
    captured.replay();
    device().synchronizeSync();
  });

  test("count rows of logits without a finite entry", () => {
    using random = new RandomLayer(device(), example);
    using captured = random.layer.capture(2);
    captured.x.write(new Float32Array(captured.x.size).fill(Number.NaN));
    device().synchronizeSync();
    const before = device().warnings.nonFiniteLogitRows;
    captured.replay();
    captured.replay();
    device().synchronizeSync();
    expect(device().warnings.nonFiniteLogitRows - before).toBe(4);
  });

  test("without tokens", () => {
    using random = new RandomLayer(device(), example);
    using captured = random.layer.capture(0);
    captured.x.write(new Float32Array(0));
    captured.replay();
    expect(captured.y.shape).toEqual([0, example.config.hiddenSize]);
    expect(captured.y.dataSync()).toEqual(new Float32Array(0));
  });

  test("wrong arguments", () => {
    using random = new RandomLayer(device(), example);
    const capture = (tokens: unknown, options?: unknown) => () =>
      random.layer.capture(tokens as number, options as object);
    expectError(capture(-1), "INVALID_ARGUMENT", /tokens: expected an integer >= 0, got -1/);
    expectError(capture(1.5), "INVALID_ARGUMENT", /tokens: .*got 1\.5/);
    expectError(capture(undefined), "INVALID_ARGUMENT", /tokens: .*got undefined/);
    expectError(capture(1, "bf16"), "INVALID_ARGUMENT", /options: expected an object/);
    expectError(capture(1, { dtype: "f8" }), "INVALID_ARGUMENT", /dtype: .*got "f8"/);
    expectError(capture(1, { dtype: "i32" }), "UNSUPPORTED_DTYPE", /dtype: expected f32, f16 or bf16, got i32/);
    expectError(capture(1, { dtype: "f64" }), "UNSUPPORTED_DTYPE", /dtype: expected .* weights of f32, got f64/);
    using captured = random.layer.capture(2);
    expectError(() => captured.x.write(new Float32Array(3)), "SHAPE_MISMATCH", /data: expected 66 values.*got 3/);
  });

  test("one that is refused leaves no memory behind", () => {
    using random = new RandomLayer(device(), example);
    using weight = device().zeros([example.config.hiddenSize - 1], "f32");
    const empty = vi.spyOn(Device.prototype, "empty");
    try {
      expectError(() => random.layer.capture(2, { norm: { weight } }), "SHAPE_MISMATCH", /^norm\.weight/);
      expect(empty.mock.results.map(({ value }) => value.disposed)).toEqual([true]);
    } finally {
      empty.mockRestore();
    }
  });

  test("use after dispose() is an error; dispose() again is not", async () => {
    const random = new RandomLayer(device(), example);
    const captured = random.layer.capture(example.tokens);
    const values = tokensOf(captured, new Random(17));
    captured.x.write(values);
    captured.replay();
    const result = captured.y.raw();
    captured.dispose();
    captured.dispose();
    expectError(() => captured.replay(), "DISPOSED", /captured forward: used after dispose/);
    await expectRejection(captured.y.data(), "DISPOSED", /tensor/);
    expect(await result).toEqual(forward(random.layer, captured, values));
    random.layer.dispose();
    expectError(() => random.layer.capture(1), "DISPOSED", /layer: used after dispose/);
  });

  test("a device that is disposed of ends its captures", () => {
    const other = openDevice(name);
    const captured = new RandomLayer(other, example).layer.capture(1);
    captured.replay();
    other.dispose();
    expectError(() => captured.replay(), "DISPOSED", /device .*: used after dispose/);
    captured.dispose();
  });
});
