import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { Device } from "../../lib/core/device/device.js";
import { MoeError } from "../../lib/core/errors.js";
import type { ExpertRange } from "../../lib/core/layer/expert_range.js";
import type { Shape } from "../../lib/core/tensors/shape.js";
import { type FloatDType, MoeLayer, type MoeLayerOptions, type Routing, type Tensor } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expertsOfBank, sumOfBanks } from "../support/banks.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { drawnExperts, drawnSizes, drawnTensor } from "../support/drawn_layer.js";
import { expectError, expectRejection } from "../support/errors.js";
import { expectForwardsOfOwnRouting } from "../support/forwards.js";

// Layers of which some experts have no weights and return their input.

const { hidden, inner } = drawnSizes;
const [tokens, withWeights, identityExperts, topK] = [12, 5, 3, 4];
const numExperts = withWeights + identityExperts;

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  const drawn = <D extends FloatDType = "f32">(seed: string, shape: Shape, dtype?: D, scale?: number) =>
    drawnTensor(device(), seed, shape, dtype, scale);
  const stack = (dtype?: FloatDType) => drawnExperts(device(), withWeights, dtype);

  const layerOf = (config: Partial<MoeLayerOptions> = {}, dtype: FloatDType = "f32") =>
    MoeLayer.create({
      ...{ device: device(), hiddenSize: hidden, intermediateSize: inner, numExperts, identityExperts, topK },
      scale: 1.5,
      router: drawn("router", [numExperts, hidden], dtype, 0.5),
      selectionBias: drawn("bias", [numExperts], "f32", 0.1),
      experts: stack(dtype),
      ...config,
    });

  /** Σⱼ wⱼ · fⱼ(x), or fⱼ(wⱼ · x), where f is the expert's formula, or x itself from `withWeights` on. */
  async function expectedOf(
    x: Tensor,
    { ids, weights }: Routing,
    onInput: boolean,
    residual?: Tensor,
  ): Promise<Float64Array> {
    const { gate, up, down } = stack();
    const [g, u, d] = await Promise.all([gate.data(), up.data(), down.data()]);
    const [values, chosen, factors] = await Promise.all([x.data(), ids.data(), weights.data()]);
    const y = Float64Array.from(residual ? ((await residual.data()) as Float32Array) : new Float64Array(x.size));
    const k = ids.shape[1] as number;
    chosen.forEach((expert, slot) => {
      if (expert < 0) return;
      const token = Math.floor(slot / k) * hidden;
      const weight = factors[slot] as number;
      const [before, after] = onInput ? [weight, 1] : [1, weight];
      const at = (
        matrix: ArrayLike<number>,
        row: number,
        columns: number,
        vector: ArrayLike<number>,
        offset: number,
      ) => {
        let sum = 0;
        for (let i = 0; i < columns; i++) sum += (matrix[row * columns + i] as number) * (vector[offset + i] as number);
        return sum;
      };
      const activated = Array.from({ length: inner }, (_, row) => {
        const [a, b] = [g, u].map((matrix) => before * at(matrix, expert * inner + row, hidden, values, token));
        return ((a as number) / (1 + Math.exp(-(a as number)))) * (b as number);
      });
      for (let h = 0; h < hidden; h++) {
        const output =
          expert < withWeights
            ? after * at(d, expert * hidden + h, inner, activated, 0)
            : weight * (values[token + h] as number);
        (y[token + h] as number) += output;
      }
    });
    return y;
  }

  test.each<Partial<MoeLayerOptions>>([
    {},
    { normalize: true },
    { weightOn: "input" },
    { capacity: { tokens: 5 } },
    { topK: numExperts, selectionBias: undefined, scale: 1, expertChoice: { tokens: 4 } },
    { hierarchy: { numGroups: 4, topK: 2 }, selectionBias: undefined },
    { perExpertScale: true, expertScale: undefined },
  ])("%o: identity experts add their weights times x", async (given) => {
    const expertScale = given.perExpertScale ? drawn("scales", [numExperts]) : undefined;
    const groupRouter = given.hierarchy ? drawn("groups", [4, hidden]) : undefined;
    const config = { ...given, ...(expertScale && { expertScale }), ...(groupRouter && { groupRouter }) };
    const layer = layerOf(config);
    const x = drawn("x", [tokens, hidden]);
    const routing = layer.route(x);
    const ids = await routing.ids.data();
    expect(ids.some((id) => id >= withWeights) && ids.some((id) => id < withWeights)).toBe(true);
    const residual = drawn("residual", [tokens, hidden]);
    for (const options of [{}, { residual }, { save: true }, { save: true, recompute: true, residual }]) {
      const given = layer.forward(x, options);
      const y = "y" in given ? given.y : given;
      const added = (options as { residual?: Tensor }).residual;
      const expected = await expectedOf(x, routing, config.weightOn === "input", added);
      expect(relativeError(await y.data(), expected)).toBeLessThanOrEqual(2e-6);
    }
  });

  test("a token whose experts all return their input gets x times the sum of their weights, in one row or many", async () => {
    const x = drawn("x", [2, hidden]);
    const ids = device().tensor(Int32Array.of(7, 5, -1, 6, -1, -1), [2, 3]);
    const weights = device().tensor(Float32Array.of(0.5, 0.25, 8, 2, 9, 9), [2, 3]);
    for (const weightOn of ["output", "input"] as const) {
      const y = await layerOf({ weightOn }).forward(x, { routing: { ids, weights } }).data();
      expect(y).toEqual((await x.data()).map((value, index) => value * (index < hidden ? 0.75 : 2)));
    }
  });

  test("what is added is rounded once, with the residual", async () => {
    const layer = layerOf({}, "bf16");
    const ids = device().tensor(Int32Array.of(7, 5), [1, 2]);
    const weights = device().tensor(Float32Array.of(1, 2 ** -9), [1, 2]);
    const x = device().tensor(new Float32Array(hidden).fill(1), [1, hidden], "bf16");
    // 1 + 2^-9 is 1 in bfloat16, and 1 + 3 · 2^-10 too.
    const residual = device().tensor(new Float32Array(hidden).fill(3 * 2 ** -10), [1, hidden], "bf16");
    for (const save of [false, true]) {
      const given = layer.forward(x, { routing: { ids, weights }, residual, save });
      const y = "y" in given ? given.y : given;
      expect(Array.from(await y.data())).toEqual(new Array(hidden).fill(1 + 2 ** -7));
    }
  });

  test("a forward is that of its routing, alone or with other tokens", async () => {
    for (const dtype of ["f32", "bf16"] as const) {
      const layer = layerOf({ sharedExpert: { intermediateSize: 5, gate: "sigmoid" }, ...sharedOf(dtype) }, dtype);
      for (const shape of [
        [tokens, hidden],
        [3, 4, hidden],
        [0, hidden],
      ]) {
        await expectForwardsOfOwnRouting(layer, drawn("x", shape, dtype));
      }
      const x = drawn("x", [tokens, hidden], dtype);
      const all = await layer.forward(x, { residual: true }).data();
      for (const token of [0, 7]) {
        const one = await layer.forward(x.rows(token, token + 1), { residual: true }).data();
        expect(one).toEqual(all.slice(token * hidden, (token + 1) * hidden));
      }
    }
  });

  const sharedOf = (dtype: FloatDType) => ({
    shared: {
      gate: drawn("shared gate", [5, hidden], dtype),
      up: drawn("shared up", [5, hidden], dtype),
      down: drawn("shared down", [hidden, 5], dtype),
    },
    sharedGate: drawn("gate of shared", [1, hidden], dtype),
  });

  test("captured forwards give the same bits, with the norm and the residual", async () => {
    const layer = layerOf();
    const weight = drawn("norm", [hidden]);
    for (const options of [{}, { residual: true }, { norm: { weight }, residual: true }]) {
      using captured = layer.capture(tokens, options);
      for (const round of ["first", "second"]) {
        const x = drawn(round, [tokens, hidden]);
        captured.x.write(await x.data());
        captured.replay();
        expect(await captured.y.data()).toEqual(await layer.forward(x, options).data());
      }
    }
  });

  test("banks add up to the layer; the first one adds identity experts", async () => {
    const x = drawn("x", [tokens, hidden]);
    const layerOfBank = (bank: ExpertRange) => layerOf({ bank, experts: expertsOfBank(stack(), bank) });
    const banks = [
      { first: 0, count: 2 },
      { first: 2, count: 3 },
    ] as const;
    const sum = await sumOfBanks(banks, (bank) => layerOfBank(bank).forward(x));
    const whole = await layerOf().forward(x).data();
    expect(relativeError(sum, whole)).toBeLessThanOrEqual(1e-6);
    const identity = device().tensor(new Int32Array(tokens).fill(7), [tokens, 1]);
    const weights = device().tensor(new Float32Array(tokens).fill(1), [tokens, 1]);
    const routing = { ids: identity, weights };
    expect(await layerOfBank(banks[0]).forward(x, { routing }).data()).toEqual(await x.data());
    expect(await layerOfBank(banks[1]).forward(x, { routing }).data()).toEqual(new Float32Array(x.size));
  });

  test("is saved and loaded, whole and as a bank", async () => {
    using directory = temporaryDirectory();
    const x = drawn("x", [tokens, hidden]);
    const layer = layerOf();
    const path = join(directory.path, "layer.safetensors");
    await layer.save(path);
    using loaded = await MoeLayer.load(path, { device: device() });
    expect(loaded.description).toEqual(layer.description);
    expect(loaded.description.bank).toEqual({ first: 0, count: withWeights });
    expect(await loaded.forward(x).data()).toEqual(await layer.forward(x).data());
    using part = await MoeLayer.load(path, { device: device(), bank: { first: 3, count: 2 } });
    const other = join(directory.path, "bank.safetensors");
    await part.save(other);
    using again = await MoeLayer.load(other, { device: device() });
    expect(again.description).toMatchObject({ identityExperts, bank: { first: 3, count: 2 } });
    expect(await again.forward(x).data()).toEqual(await part.forward(x).data());
    await expectRejection(
      MoeLayer.load(path, { device: device(), bank: { first: 3, count: 3 } }),
      "INVALID_ARGUMENT",
      /bank: expected experts within 0 to 4, got 3 to 5/,
    );
  });

  test("gradients are the same with recompute and offload", async () => {
    const layer = layerOf({}, "bf16");
    const [x, dy] = [drawn("x", [3, 4, hidden], "bf16"), drawn("dy", [3, 4, hidden], "bf16")];
    const run = async (options: object) => {
      const { state } = layer.forward(x, { save: true, residual: true, ...options });
      const { dx, gradients } = layer.backward(state, dy);
      expect(gradients.experts?.length).toBe(withWeights);
      return await Promise.all([dx, gradients.router as Tensor].map((tensor) => tensor.data()));
    };
    const expected = await run({});
    expect(await run({ recompute: true })).toEqual(expected);
    expect(await run({ offload: true })).toEqual(expected);
  });

  test("training goes on with the layer's parameters", async () => {
    const layer = layerOf();
    const x = drawn("x", [tokens, hidden]);
    const before = await layer.forward(x).data();
    using parameters = layer.parameters();
    expect(parameters.weights.experts?.length).toBe(withWeights);
    expect(parameters.weights.router?.shape).toEqual([numExperts, hidden]);
    parameters.changed();
    expect(await layer.forward(x).data()).toEqual(before);
  });

  if (name === "simt")
    test("has the same bits with offload", async () => {
      const x = drawn("x", [tokens, hidden]);
      const expected = await layerOf().forward(x).data();
      const layer = layerOf({ offload: { slots: 2 } });
      expect(await layer.forward(x).data()).toEqual(expected);
      layer.offload?.prefetch([4, 7, -1]);
      const left = layerOf({ offload: { slots: 2, onMiss: "cpu" } });
      expect(relativeError(await left.forward(x).data(), expected)).toBeLessThanOrEqual(1e-6);
    });

  test("a batch that there is no memory for leaves the layer usable", async () => {
    const layer = layerOf();
    const x = drawn("x", [tokens, hidden]);
    using few = x.rows(0, 2);
    const before = await layer.forward(few).data();
    const { allocate } = Device.prototype;
    const full = vi.spyOn(Device.prototype, "allocate").mockImplementation(function (this: Device, shape, dtype) {
      if (dtype === "i32" && shape[0] === tokens && shape[1] === 1) throw new MoeError("OUT_OF_MEMORY", "full");
      return allocate.call(this, shape, dtype) as never;
    });
    try {
      expectError(() => layer.forward(x), "OUT_OF_MEMORY", /full/);
    } finally {
      full.mockRestore();
    }
    expect(await layer.forward(few).data()).toEqual(before);
    expect((await layer.forward(x).data()).length).toBe(x.size);
  });

  test("what makes no sense is refused by name", async () => {
    const bad = (config: Partial<MoeLayerOptions>, message: RegExp) =>
      expectError(() => layerOf(config), "INVALID_ARGUMENT", message);
    bad({ identityExperts: 8 }, /identityExperts: expected fewer than numExperts 8, got 8/);
    bad({ identityExperts: -1 }, /identityExperts: expected an integer >= 0, got -1/);
    const fewer = () => layerOf({ identityExperts: 2 });
    expectError(fewer, "SHAPE_MISMATCH", /experts\.gate: expected shape \[6, 17, 33\], got \[5, 17, 33\]/);
    bad({ bank: { first: 4, count: 2 } }, /bank: expected experts within 0 to 4, got 4 to 5/);
    bad({ outputActivation: "softmax" }, /identityExperts cannot be combined with outputActivation "softmax"/);
    bad(
      { sharedExpert: { intermediateSize: 4, gate: "softmax" } },
      /identityExperts cannot be combined with sharedExpert.gate "softmax"/,
    );
    const x = drawn("x", [1, hidden]);
    const weights = device().tensor(Float32Array.of(1), [1, 1]);
    const routing = { ids: device().tensor(Int32Array.of(8), [1, 1]), weights };
    await expectRejection(
      layerOf().forward(x, { routing }).data(),
      "ID_OUT_OF_RANGE",
      /ids\[0, 0\]: expected -1 or an expert from 0 to 7, got 8/,
    );
  });
});
