import { describe, expect, test } from "vitest";
import {
  type FloatDType,
  type ForwardOptions,
  openDevice,
  rmsNorm,
  rmsNormBackward,
  type Tensor,
} from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { centralDifferences, dot } from "../support/central_differences.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { float64, normals, valuesOf } from "../support/float64.js";
import { exampleConfig, type LayerProblem, RandomLayer } from "../support/random_layer.js";

// A layer's norm and residual: y = residual + layer(RMSNorm(x)).

const reference = openDevice("reference");
const { hiddenSize } = exampleConfig;
const tokens = 12;

/** Layers whose routing is fused, composed, given, or has shared experts. */
const layers: Readonly<Record<string, LayerProblem["config"]>> = {
  plain: exampleConfig,
  shared: { ...exampleConfig, sharedExpert: { intermediateSize: 20, gate: "softmax" } },
  "weight on input": { ...exampleConfig, weightOn: "input", sharedExpert: { intermediateSize: 17 } },
  capacity: { ...exampleConfig, capacity: { factor: 1 } },
};

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);
  const drawn = (shape: number[], seed: string, dtype: FloatDType = "f32") =>
    device().tensor(
      new Random(seed).normals(
        shape.reduce((a, b) => a * b, 1),
        1,
      ),
      shape,
      dtype,
    );
  const layerOf = (config: LayerProblem["config"], dtype: FloatDType = "bf16") =>
    new RandomLayer(device(), { config, tokens, dtype, seed: 4 });

  /** `reference` rounds a sum of float64 once; others a float32 sum of what they would have rounded. */
  const expectSum = (y: Float32Array, expected: Float32Array) => {
    if (name === "reference") expect(relativeError(y, expected)).toBeLessThanOrEqual(2 ** -23);
    else expect(y).toEqual(expected);
  };

  describe.each(Object.entries(layers))("%s", (_, config) => {
    test("has the bits of a norm, a layer and a float32 sum", async () => {
      using made = layerOf(config);
      const { layer } = made;
      const norm = { weight: drawn([hiddenSize], "norm", "bf16"), epsilon: 1e-5, offset: 1 };
      for (const shape of [
        [tokens, hiddenSize],
        [3, 4, hiddenSize],
        [0, hiddenSize],
      ]) {
        const x = drawn(shape, "x") as Tensor<"f32">;
        const flat = x.reshape([x.size / hiddenSize, hiddenSize]);
        const normed = rmsNorm(flat, norm.weight, { epsilon: 1e-5, offset: 1 }).reshape(shape) as Tensor<"f32">;
        const sum = async (residual: Tensor) => {
          const added = await residual.data();
          return (await layer.forward(normed).data()).map((value, i) => value + Number(added[i]));
        };
        const yOf = async (options: Omit<ForwardOptions<"f32">, "save" | "want">) => {
          const { y } = layer.forward(x, { ...options, want: ["routing"] });
          expect(await layer.forward(x, options).raw()).toEqual(await y.raw());
          return await y.data();
        };
        expect(await yOf({ norm })).toEqual(await layer.forward(normed).data());
        expectSum(await yOf({ norm, residual: true }), await sum(x));
        const other = drawn(shape, "other", "f16");
        expectSum(await yOf({ norm, residual: other }), await sum(other));
        const given = layer.route(normed);
        expectSum(await yOf({ norm, residual: other, routing: given }), await sum(other));
        const { logits } = layer.forward(x, { norm, want: ["logits"] });
        expect(await logits.raw()).toEqual(await layer.routerLogits(normed).raw());
        expectSum(await yOf({ residual: true, norm, out: device().empty(shape, "f32") }), await sum(x));
        expect(await yOf({ residual: false, norm })).toEqual(await layer.forward(normed).data());
      }
    });

    test("saves what backward needs, with and without recomputing it", async () => {
      using made = layerOf(config, "f32");
      const { layer } = made;
      const [x, dy] = [drawn([3, 4, hiddenSize], "x"), drawn([3, 4, hiddenSize], "dy")];
      const weight = drawn([hiddenSize], "norm");
      const saved = layer.forward(x, { norm: { weight }, residual: true, save: true });
      const plain = layer.forward(x, { norm: { weight }, residual: true });
      expect(relativeError(await saved.y.data(), await plain.data())).toBeLessThan(1e-5);
      const again = layer.forward(x, { norm: { weight }, residual: true, save: true, recompute: true });
      // The rows of 12 tokens, and 4 bytes for each value of theirs, which is computed again.
      expect(saved.state.byteLength).toBeGreaterThan(again.state.byteLength + tokens * hiddenSize * 4);
      const results = [layer.backward(saved.state, dy), layer.backward(again.state, dy)];
      const [first, second] = await Promise.all(
        results.map(async ({ dx, dNormWeight }) => [await dx.data(), await (dNormWeight as Tensor).data()] as const),
      );
      expect(second).toEqual(first);
      // Step by step.
      const normed = rmsNorm(x.reshape([tokens, hiddenSize]), weight);
      const inner = layer.forward(normed, { save: true });
      const flat = dy.reshape([tokens, hiddenSize]);
      const { dx: through } = layer.backward(inner.state, flat);
      const rows = x.reshape([tokens, hiddenSize]);
      const { dx, dWeight } = rmsNormBackward(rows, weight, through, { residual: flat });
      // `capacity` is per sequence only if it says so, so [3, 4, H] is as [12, H].
      expect(relativeError(first?.[0] as Float32Array, await dx.data())).toBeLessThan(1e-5);
      expect(relativeError(first?.[1] as Float32Array, await dWeight.data())).toBeLessThan(1e-5);
    });
  });

  test("backward writes the gradient of the norm's weight to a tensor, and adds it there", async () => {
    using made = layerOf(exampleConfig, "f32");
    const { layer } = made;
    const [x, dy] = [drawn([tokens, hiddenSize], "x"), drawn([tokens, hiddenSize], "dy")];
    const weight = drawn([hiddenSize], "norm");
    const state = () => layer.forward(x, { norm: { weight }, save: true }).state;
    const { gradients, dNormWeight } = layer.backward(state(), dy);
    const once = await (dNormWeight as Tensor<"f32">).data();
    const into = drawn([hiddenSize], "earlier") as Tensor<"f32">;
    const written = layer.backward(state(), dy, { gradients, dNormWeight: into });
    expect(written.dNormWeight).toBe(into);
    expect(await into.data()).toEqual(once);
    layer.backward(state(), dy, { gradients, accumulate: true, dNormWeight: into });
    expect(await into.data()).toEqual(once.map((value) => value + value));
    // Without it, the gradient is one of its own.
    const own = layer.backward(state(), dy, { gradients, accumulate: true });
    expect(await own.dNormWeight?.data()).toEqual(once);
  });

  test("a tensor for the gradient of the norm's weight that does not fit is refused, and the state stays", () => {
    using made = layerOf(exampleConfig, "f32");
    const { layer } = made;
    const x = drawn([tokens, hiddenSize], "x");
    const weight = drawn([hiddenSize], "norm") as Tensor<"f32">;
    const { state } = layer.forward(x, { norm: { weight }, save: true });
    const backward = (dNormWeight: Tensor<"f32">, of = state) => layer.backward(of, x, { dNormWeight });
    const short = device().zeros([hiddenSize - 1], "f32");
    expectError(() => backward(short), "SHAPE_MISMATCH", /^dNormWeight: expected shape \[33\], got \[32\]/);
    const half = device().zeros([hiddenSize], "f16") as unknown as Tensor<"f32">;
    expectError(() => backward(half), "UNSUPPORTED_DTYPE", /^dNormWeight: /);
    expectError(() => backward(weight), "INVALID_ARGUMENT", /^dNormWeight: expected memory of its own/);
    const { state: plain } = layer.forward(x, { save: true });
    const into = device().zeros([hiddenSize], "f32");
    expectError(() => backward(into, plain), "INVALID_ARGUMENT", /^dNormWeight requires a forward with norm/);
    expect(backward(into).dNormWeight).toBe(into);
  });

  test("a capture normalises and adds as forward does", async () => {
    for (const config of [layers.plain, layers.capacity]) {
      using made = layerOf(config as LayerProblem["config"]);
      const weight = drawn([hiddenSize], "norm");
      const norm = { weight, epsilon: 1e-5 };
      using captured = made.layer.capture(tokens, { dtype: "f32", norm, residual: true });
      weight.dispose(); // the capture keeps it
      for (const seed of ["a", "b"]) {
        const x = drawn([tokens, hiddenSize], seed);
        captured.x.write(await x.data());
        captured.replay();
        const again = { ...norm, weight: drawn([hiddenSize], "norm") };
        const y = made.layer.forward(x as Tensor<"f32">, { norm: again, residual: true });
        expect(await captured.y.raw()).toEqual(await y.raw());
      }
    }
  });

  test("options that do not fit are refused by name", () => {
    using made = layerOf(exampleConfig, "f32");
    const { layer } = made;
    const x = drawn([tokens, hiddenSize], "x") as Tensor<"f32">;
    const weight = device().zeros([hiddenSize], "f32");
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    const call = (options: any) => layer.forward(x, options);
    expectError(() => call({ norm: {} }), "INVALID_ARGUMENT", /^norm\.weight: expected a Tensor, got undefined/);
    expectError(() => call({ norm: weight }), "INVALID_ARGUMENT", /norm/);
    expectError(() => call({ norm: { weight, eps: 1 } }), "INVALID_ARGUMENT", /no option "eps"/);
    expectError(
      () => call({ norm: { weight, epsilon: 0 } }),
      "INVALID_ARGUMENT",
      /^norm\.epsilon: expected a number from/,
    );
    const short = { weight: device().zeros([hiddenSize - 1], "f32") };
    expectError(() => call({ norm: short }), "SHAPE_MISMATCH", /^norm\.weight: expected shape \[33\], got \[32\]/);
    expectError(() => call({ residual: 1 }), "INVALID_ARGUMENT", /^residual: expected a boolean/);
    const flat = x.reshape([tokens * hiddenSize]);
    expectError(() => call({ residual: flat }), "SHAPE_MISMATCH", /^residual: expected shape \[12, 33\]/);
    expectError(() => call({ residual: x, out: x }), "INVALID_ARGUMENT", /^out: expected memory of its own/);
    expectError(() => layer.capture(2, { norm: short }), "SHAPE_MISMATCH", /^norm\.weight/);
    const other = openDevice("reference");
    const foreign = { weight: other.zeros([hiddenSize], "f32") };
    expectError(() => call({ norm: foreign }), "DEVICE_MISMATCH", /^norm\.weight/);
  });
});

test("in float64, dx and the gradient of the norm's weight are derivatives of the block", () => {
  for (const residual of [true, false]) {
    const config = { ...exampleConfig, hiddenSize: 9, intermediateSize: 5 };
    using made = new RandomLayer(reference, { config, tokens: 4, dtype: "f64", seed: 2 });
    const { layer } = made;
    const random = new Random(1);
    const [x, weight, dy] = [normals(random, 36), normals(random, 9), normals(random, 36)];
    const forward = (a: Float64Array, b: Float64Array) => {
      const norm = { weight: float64(reference, b, [9]), epsilon: 1e-3, offset: 1 };
      return layer.forward(float64(reference, a, [4, 9]), { norm, residual, save: true });
    };
    const loss = (a: Float64Array, b: Float64Array) => dot(valuesOf(forward(a, b).y), dy);
    const { dx, dNormWeight } = layer.backward(forward(x, weight).state, float64(reference, dy, [4, 9]));
    const expected = [
      centralDifferences(x, (values) => loss(values, weight)),
      centralDifferences(weight, (values) => loss(x, values)),
    ] as const;
    expect(relativeError(valuesOf(dx), expected[0], 1)).toBeLessThan(1e-6);
    expect(relativeError(valuesOf(dNormWeight as Tensor), expected[1], 1)).toBeLessThan(1e-6);
  }
});

test("backward without a norm adds the residual's gradient once, and not that of a residual that was given", () => {
  using made = new RandomLayer(reference, { config: exampleConfig, tokens: 4, dtype: "f64", seed: 2 });
  const { layer } = made;
  const x = float64(reference, normals(new Random(1), 4 * hiddenSize), [4, hiddenSize]);
  const dy = float64(reference, normals(new Random(2), 4 * hiddenSize), [4, hiddenSize]);
  const dxOf = (residual: boolean | Tensor<FloatDType>) => {
    const { dx, dNormWeight } = layer.backward(layer.forward(x, { residual, save: true }).state, dy);
    expect(dNormWeight).toBeUndefined();
    return valuesOf(dx);
  };
  const without = dxOf(false);
  const gradient = valuesOf(dy);
  expect(
    relativeError(
      dxOf(true),
      without.map((value, i) => value + (gradient[i] as number)),
    ),
  ).toBeLessThan(1e-12);
  expect(dxOf(x.reshape(x.shape))).toEqual(without);
});
