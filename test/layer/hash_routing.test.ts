import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Shape } from "../../lib/core/tensors/shape.js";
import { type FloatDType, MoeLayer, type MoeLayerOptions, type Tensor } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expertsOfBank, sumOfBanks } from "../support/banks.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { drawnExperts, drawnSizes, drawnTensor } from "../support/drawn_layer.js";
import { expectError, expectRejection } from "../support/errors.js";

// Layers of which a table of token ids chooses the experts, and the router only weighs them.

const { hidden, inner } = drawnSizes;
const [tokens, experts, topK, vocabulary] = [6, 5, 2, 8];
const hashRouting = { vocabularySize: vocabulary };
const rule = { hashRouting, scoring: "sqrt_softplus", normalize: true, scale: 1.5 } as const;
/** The experts of each token id. */
const table = [
  [0, 1],
  [4, 2],
  [3, 0],
  [1, 2],
  [2, 3],
  [4, 0],
  [1, 4],
  [3, 2],
];
const ids = [3, 7, 3, 0, 1, 6];
/** -1 is padding. */
const expectedIds = (given: readonly number[]) => given.flatMap((id) => (id < 0 ? [-1, -1] : (table[id] as number[])));

/** √ln(1 + eˣ) of the experts' logits, divided by their sum, times 1.5. */
function weightsOf(logits: ArrayLike<number>, given: readonly number[]): number[] {
  return given.flatMap((id, token) => {
    if (id < 0) return [0, 0];
    const scores = (table[id] as number[]).map((expert) =>
      Math.sqrt(Math.log1p(Math.exp(logits[token * experts + expert] as number))),
    );
    return scores.map((score) => (1.5 * score) / scores.reduce((a, b) => a + b));
  });
}

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  const drawn = <D extends FloatDType = "f32">(seed: string, shape: Shape, dtype?: D, scale?: number) =>
    drawnTensor(device(), seed, shape, dtype, scale);
  const integers = (values: readonly number[], shape = [values.length]) =>
    device().tensor(Int32Array.from(values), shape);
  const stacked = (dtype?: FloatDType) => drawnExperts(device(), experts, dtype);

  function layerOf(config: Partial<MoeLayerOptions> = {}, dtype: FloatDType = "f32"): MoeLayer {
    return MoeLayer.create({
      ...{ device: device(), hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK },
      ...rule,
      router: drawn("router", [experts, hidden], dtype, 0.5),
      expertTable: integers(table.flat(), [vocabulary, topK]),
      experts: stacked(dtype),
      ...config,
    });
  }

  test("the table has the experts, and the router their weights", async () => {
    using layer = layerOf();
    const x = drawn("x", [tokens, hidden]);
    const logits = await layer.routerLogits(x).data();
    for (const given of [ids, [-1, 7, 0, -1, 2, 2]]) {
      const forms = [given, Int32Array.from(given), integers(given)];
      for (const tokenIds of forms) {
        const routing = layer.route(x, { tokenIds });
        expect([...(await routing.ids.data())]).toEqual(expectedIds(given));
        expect(relativeError(await routing.weights.data(), weightsOf(logits, given))).toBeLessThanOrEqual(3e-6);
        const y = await layer.forward(x, { tokenIds }).data();
        expect(y).toEqual(await layer.forward(x, { routing }).data());
        given.forEach((id, token) => {
          const isZero = y.slice(token * hidden, (token + 1) * hidden).every((value) => value === 0);
          expect(isZero, `token ${token}`).toBe(id < 0);
        });
      }
    }
  });

  test.each(["f32", "bf16"] as const)("a forward in %s is that of its routing", async (dtype) => {
    using layer = layerOf({}, dtype);
    for (const shape of [
      [tokens, hidden],
      [3, 2, hidden],
      [0, hidden],
    ]) {
      const x = drawn("x", shape, dtype);
      const count = x.size / hidden;
      const tokenIds = integers(ids.slice(0, count), shape.slice(0, -1));
      const routing = layer.route(x, { tokenIds });
      const expected = await layer.forward(x, { routing }).raw();
      const out = device().empty(shape, dtype);
      const residual = drawn("residual", shape);
      const wanted = layer.forward(x, { tokenIds: ids.slice(0, count), want: ["routing", "logits"], out });
      expect(await wanted.y.raw()).toEqual(expected);
      expect(await wanted.routing.weights.data()).toEqual(await routing.weights.data());
      expect(await wanted.logits.data()).toEqual(await layer.routerLogits(x).data());
      expect(await layer.forward(x, { tokenIds, residual }).raw()).toEqual(
        await layer.forward(x, { routing, residual }).raw(),
      );
    }
  });

  test("a captured forward reads token ids of its own", async () => {
    using layer = layerOf();
    using captured = layer.capture(tokens);
    expect(captured.tokenIds?.shape).toEqual([tokens]);
    expect(await captured.tokenIds?.data()).toEqual(new Int32Array(tokens));
    for (const given of [ids, [-1, 7, 0, -1, 2, 2]]) {
      const x = drawn(given.join(), [tokens, hidden]);
      captured.x.write(await x.data());
      captured.tokenIds?.write(Int32Array.from(given));
      captured.replay();
      expect(await captured.y.data()).toEqual(await layer.forward(x, { tokenIds: given }).data());
    }
    using plain = layerOf({ hashRouting: undefined, expertTable: undefined });
    using other = plain.capture(tokens);
    expect(other.tokenIds).toBeUndefined();
  });

  test("gradients are the same with recompute and offload, and the choice has none", async () => {
    using layer = layerOf({ capacity: { tokens: 2, renormalize: true } });
    const [x, dy] = [drawn("x", [tokens, hidden]), drawn("dy", [tokens, hidden])];
    const run = async (options: object, tokenIds: readonly number[] | Tensor<"i32">) => {
      const { y, state } = layer.forward(x, { tokenIds, save: true, ...options });
      const alone = await layer.forward(x, { tokenIds }).data();
      expect(relativeError(await y.data(), alone)).toBeLessThanOrEqual(1e-6);
      const { dx, gradients } = layer.backward(state, dy);
      expect("expertTable" in gradients).toBe(false);
      return [await dx.data(), await (gradients.router as Tensor).data()];
    };
    const expected = await run({}, ids);
    expect(expected[1]?.some((value) => value !== 0)).toBe(true);
    expect(await run({ recompute: true }, ids)).toEqual(expected);
    expect(await run({ offload: true }, integers(ids))).toEqual(expected);
  });

  test("a state keeps the ids, whatever becomes of the caller's tensor", async () => {
    using layer = layerOf({ capacity: { tokens: 2, renormalize: true } });
    const [x, dy] = [drawn("x", [tokens, hidden]), drawn("dy", [tokens, hidden])];
    const expected = layer.backward(layer.forward(x, { tokenIds: ids, save: true }).state, dy);
    const given = integers(ids);
    const { state } = layer.forward(x, { tokenIds: given, save: true });
    given.dispose();
    expect(await layer.backward(state, dy).dx.data()).toEqual(await expected.dx.data());
  });

  test("the router is trained, and the table stays", async () => {
    using layer = layerOf();
    using parameters = layer.parameters();
    expect([...parameters].map(({ name }) => name)).toEqual(["experts.gateUp", "experts.down", "router"]);
    const x = drawn("x", [tokens, hidden]);
    const { router } = parameters.weights;
    router?.write(new Float32Array(router.size));
    parameters.changed();
    const routing = layer.route(x, { tokenIds: ids });
    expect([...(await routing.ids.data())]).toEqual(expectedIds(ids));
    expect(relativeError(await routing.weights.data(), new Float32Array(2 * tokens).fill(0.75))).toBeLessThan(1e-6);
  });

  test("banks add up to the layer, even where a table has an expert twice", async () => {
    const twice = integers(
      table.flatMap((_, id) => (id === 6 ? [3, 0] : [0, 0])),
      [vocabulary, topK],
    );
    using layer = layerOf({ expertTable: twice });
    const x = drawn("x", [tokens, hidden]);
    // One expert has nearly all slots of all tokens, far more than there are tokens.
    const banks = [
      { first: 0, count: 1 },
      { first: 1, count: 4 },
    ];
    const sum = await sumOfBanks(banks, (bank) =>
      layerOf({ expertTable: twice, bank, experts: expertsOfBank(stacked(), bank) }).forward(x, { tokenIds: ids }),
    );
    expect(relativeError(sum, await layer.forward(x, { tokenIds: ids }).data())).toBeLessThanOrEqual(1e-6);
  });

  test("is saved and loaded", async () => {
    using directory = temporaryDirectory();
    using layer = layerOf({}, "bf16");
    const x = drawn("x", [tokens, hidden], "bf16");
    const path = join(directory.path, "layer.safetensors");
    await layer.save(path);
    using loaded = await MoeLayer.load(path, { device: device() });
    expect(loaded.description).toEqual(layer.description);
    expect(loaded.description.hashRouting).toEqual({ vocabularySize: vocabulary });
    expect(await loaded.forward(x, { tokenIds: ids }).raw()).toEqual(await layer.forward(x, { tokenIds: ids }).raw());
  });

  test("the table is a copy", async () => {
    const given = integers(table.flat(), [vocabulary, topK]);
    using layer = layerOf({ expertTable: given });
    given.write(new Int32Array(given.size));
    given.dispose();
    const routing = layer.route(drawn("x", [tokens, hidden]), { tokenIds: ids });
    expect([...(await routing.ids.data())]).toEqual(expectedIds(ids));
  });

  if (name === "simt")
    test("has the same bits with offload", async () => {
      const x = drawn("x", [tokens, hidden]);
      using whole = layerOf();
      using layer = layerOf({ offload: { slots: 2 } });
      const expected = await whole.forward(x, { tokenIds: ids }).data();
      expect(await layer.forward(x, { tokenIds: ids }).data()).toEqual(expected);
    });

  test("an id out of range in a tensor counts as padding and is reported", async () => {
    using layer = layerOf();
    const x = drawn("x", [tokens, hidden]);
    for (const wrong of [vocabulary, -2, 2 ** 31 - 1]) {
      const given = ids.with(4, wrong);
      const y = layer.forward(x, { tokenIds: integers(given) });
      const message = new RegExp(`lookUpExperts: tokenIds\\[4\\]: expected -1 or a token id from 0 to 7, got ${wrong}`);
      await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", message);
      const padded = layer.forward(x, { tokenIds: ids.with(4, -1) });
      expect(await y.data()).toEqual(await padded.data());
    }
  });

  test("an expert out of range in the table is no expert and is reported", async () => {
    using layer = layerOf({ expertTable: integers(table.flat().with(7, experts), [vocabulary, topK]) });
    const { weights } = layer.route(drawn("x", [1, hidden]), { tokenIds: [3] });
    const message = /gatingWeights: routing\.ids\[0, 1\]: expected -1 or an expert from 0 to 4, got 5/;
    await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", message);
    expect([...(await weights.data())]).toEqual([1.5, 0]);
  });

  test("what makes no sense is refused by name", () => {
    const x = drawn("x", [tokens, hidden]);
    using layer = layerOf();
    using plain = layerOf({ hashRouting: undefined, expertTable: undefined });
    const bad = (call: () => unknown, message: RegExp) => expectError(call, "INVALID_ARGUMENT", message);
    bad(() => layer.forward(x), /tokenIds: expected the ids of the tokens, by which this layer chooses experts/);
    bad(() => layer.route(x), /tokenIds: expected the ids of the tokens/);
    bad(() => layer.forward(x, { save: true }), /tokenIds: expected the ids of the tokens/);
    bad(() => plain.forward(x, { tokenIds: ids }), /tokenIds requires a layer with hashRouting/);
    const routing = layer.route(x, { tokenIds: ids });
    bad(() => layer.forward(x, { tokenIds: ids, routing }), /tokenIds cannot be combined with routing/);
    layer.forward(x, { routing, want: ["logits"] });
    bad(() => layer.forward(x, { tokenIds: ids.with(2, 8) }), /tokenIds\[2\]: expected an integer from -1 to 7, got 8/);
    const below = Int32Array.from(ids.with(1, -2));
    bad(() => layer.forward(x, { tokenIds: below }), /tokenIds\[1\]: expected an integer from -1 to 7, got -2/);
    bad(() => layer.forward(x, { tokenIds: ids.with(1, 0.5) }), /tokenIds\[1\]: expected an integer/);
    bad(() => layer.forward(x, { tokenIds: ids.slice(1) }), /tokenIds: expected 6 ids, one for each token, got 5/);
    bad(() => layer.forward(x, { tokenIds: "3" as unknown as number[] }), /tokenIds: expected an i32 Tensor, a list/);
    const floats = x as unknown as Tensor<"i32">;
    expectError(() => layer.forward(x, { tokenIds: floats }), "UNSUPPORTED_DTYPE", /tokenIds: expected dtype i32/);
    const short = integers([1]);
    expectError(() => layer.forward(x, { tokenIds: short }), "SHAPE_MISMATCH", /tokenIds: expected shape \[6\]/);
    bad(() => layerOf({ expertTable: undefined }), /expertTable: expected a tensor for hashRouting/);
    bad(() => layerOf({ hashRouting: undefined }), /expertTable requires hashRouting/);
    bad(() => layerOf({ hashRouting: { vocabularySize: 0 } }), /hashRouting\.vocabularySize: expected an integer/);
    const wrong = () => layerOf({ hashRouting: { vocabularySize: 9 } });
    expectError(wrong, "SHAPE_MISMATCH", /expertTable: expected shape \[9, 2\]/);
    const bias = drawn("bias", [experts]);
    bad(() => layerOf({ selectionBias: bias }), /selectionBias cannot be combined with hashRouting/);
    bad(() => layer.setSelectionBias(bias), /selectionBias cannot be combined with hashRouting/);
    bad(() => layerOf({ selectionKey: "logit" }), /selectionKey cannot be combined with hashRouting/);
    bad(() => layerOf({ groups: { count: 5, top: 2 } }), /groups cannot be combined with hashRouting/);
    bad(() => layerOf({ noisy: {} }), /noisy cannot be combined with hashRouting/);
    bad(() => layerOf({ hierarchy: { numGroups: 1, topK: 1 } }), /hierarchy cannot be combined with hashRouting/);
    bad(
      () => layerOf({ scoring: "sparsemixer", normalize: false }),
      /scoring: expected another scoring with hashRouting/,
    );
    const all = { topK: experts, scoring: "softmax", normalize: false, scale: 1, expertChoice: { tokens: 1 } } as const;
    bad(() => layerOf(all), /expertChoice cannot be combined with hashRouting/);
  });
});
