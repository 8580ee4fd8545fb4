import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type FloatDType,
  type ForwardOptions,
  type MoeLayerOptions,
  openDevice,
  type Tensor,
} from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { drawnLayer, drawnSizes, drawnTensor, expectSameRouted } from "../support/drawn_layer.js";
import { expectError } from "../support/errors.js";
import { anyLayer, RandomLayer } from "../support/random_layer.js";

// Layers whose router's logits are given, of which their rule makes the routing.

const tokens = 6;
const { hidden, experts, topK } = drawnSizes;
type Config = Partial<MoeLayerOptions>;

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  const drawn = (seed: string, shape: number[]) => drawnTensor(device(), seed, shape);
  const layerOf = (config: Config = {}) => drawnLayer(device(), config);
  const table = () =>
    device().tensor(
      Int32Array.from({ length: tokens * topK }, (_, i) => i % experts),
      [tokens, topK],
    );

  test.each<Config>([
    {},
    { scoring: "sigmoid", normalize: true, groups: { count: 3, top: 2 } },
    { scoring: "sparsemixer", topK: 2, jitter: 1 },
    { sharedExpert: { intermediateSize: 20, gate: "sigmoid" }, normalize: true },
    { weightOn: "input" },
    { identityExperts: 2, scale: 3 },
    { latent: { size: 12 }, normalize: true },
    { capacity: { factor: 0.7, per: "sequence", drop: "probability" }, scoring: "sigmoid", perExpertScale: true },
    { expertChoice: { tokens: 2 }, topK: 6 },
    { bank: { first: 2, count: 3 } },
  ])("a layer's own logits give what it gives without them by %o", async (config) => {
    const biased = !config.expertChoice && config.scoring !== "sparsemixer";
    using layer = layerOf({ ...config, ...(biased && { selectionBias: drawn("bias", [experts]) }) });
    const x = drawn("x", [2, 3, hidden]);
    const logits = layer.routerLogits(x);
    const own = layer.forward(x, { want: ["routing"], residual: true });
    const given = layer.forward(x, { logits, want: ["routing", "logits"], residual: true });
    expectSameRouted(name, await given.y.data(), await own.y.data());
    expect(await given.routing.ids.data()).toEqual(await own.routing.ids.data());
    expectSameRouted(name, await given.routing.weights.data(), await own.routing.weights.data());
    expect(await given.logits.data()).toEqual(await logits.data());
    const routing = layer.route(x, { logits });
    expect(await routing.ids.data()).toEqual(await own.routing.ids.data());
    expectSameRouted(name, await routing.weights.data(), await own.routing.weights.data());
    expect(await layer.forward(x, { logits, residual: true }).data()).toEqual(await given.y.data());
  });

  if (name !== "reference")
    test("any layer's own logits give the same bits", async () => {
      const property = fc.asyncProperty(anyLayer, async (problem) => {
        using drawnProblem = new RandomLayer(device(), problem);
        const { layer, x } = drawnProblem;
        const logits = layer.routerLogits(x);
        const y = layer.forward(x);
        expect(await layer.forward(x, { logits }).raw()).toEqual(await y.raw());
        expect(await layer.route(x, { logits }).ids.data()).toEqual(await layer.route(x).ids.data());
      });
      await fc.assert(property, { numRuns: name === "cpu" ? 200 : 40 });
    });

  test("experts with logits of -Infinity are not chosen, and the others share the weight", async () => {
    using layer = layerOf({ normalize: true });
    const x = drawn("x", [tokens, hidden]);
    const all = await layer.routerLogits(x).data();
    const logits = device().tensor(
      all.map((value, index) => (index % experts < 3 ? -Infinity : value)),
      [tokens, experts],
    );
    const { y, routing } = layer.forward(x, { logits, want: ["routing"] });
    for (const ids of (await routing.ids.toArray()) as number[][]) expect(ids.toSorted()).toEqual([3, 4, 5]);
    for (const weights of (await routing.weights.toArray()) as number[][]) {
      expect(weights.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
    }
    expectSameRouted(name, await layer.forward(x, { routing }).data(), await y.data());
  });

  test.each(["sigmoid", "softmax"] as const)(
    "by %s, NaN excludes an expert whatever its bias; -Infinity is a score of 0",
    async (scoring) => {
      const bias = Float32Array.from({ length: experts }, (_, expert) => (expert < 3 ? 2 : 0));
      using layer = layerOf({ scoring, normalize: true, selectionBias: device().tensor(bias) });
      const x = drawn("x", [tokens, hidden]);
      const all = await layer.routerLogits(x).data();
      const chosen = async (value: number) => {
        const given = all.map((logit, index) => (index % experts < 3 ? value : logit));
        const { ids } = layer.route(x, { logits: device().tensor(given, [tokens, experts]) });
        return ((await ids.toArray()) as number[][]).map((row) => row.toSorted());
      };
      for (const ids of await chosen(Number.NaN)) expect(ids).toEqual([3, 4, 5]);
      for (const ids of await chosen(-Infinity)) expect(ids).toEqual([0, 1, 2]);
    },
  );

  test("what the router would read is not needed", async () => {
    using layer = layerOf({
      separateRouterInput: true,
      routerNorm: { epsilon: 1e-6, scale: 0.5 },
      perExpertScale: true,
      normalize: true,
    });
    const [x, routerInput] = [drawn("x", [tokens, hidden]), drawn("read", [tokens, hidden])];
    const logits = layer.routerLogits(routerInput);
    expectSameRouted(name, await layer.forward(x, { logits }).data(), await layer.forward(x, { routerInput }).data());
    using captured = layer.capture(tokens, { logits: true });
    expect(captured.routerInput).toBeUndefined();
  });

  test("with experts that are given, or from a table, the logits give the weights alone", async () => {
    using layer = layerOf({ normalize: true });
    using hashed = layerOf({ normalize: true, hashRouting: { vocabularySize: tokens }, expertTable: table() });
    const x = drawn("x", [tokens, hidden]);
    const logits = drawn("logits", [tokens, experts]);
    const tokenIds = [...Array(tokens).keys()];
    const { y, routing } = layer.forward(x, { logits, expertIds: table(), want: ["routing"] });
    const scores = (await logits.toArray()) as number[][];
    const expected = ((await table().toArray()) as number[][]).flatMap((ids, token) => {
      const powers = ids.map((id) => Math.exp(scores[token]?.[id] as number));
      return powers.map((power) => power / powers.reduce((a, b) => a + b));
    });
    expect(relativeError(await routing.weights.data(), expected)).toBeLessThanOrEqual(3e-6);
    expect(await hashed.forward(x, { logits, tokenIds }).data()).toEqual(await y.data());
  });

  test.each<Config>([
    {},
    { capacity: { tokens: 2 } },
    { latent: { size: 12 } },
    { sharedExpert: { intermediateSize: 20 } },
  ])("a captured forward reads logits of its own by %o", async (config) => {
    using layer = layerOf({ ...config, ...(config.sharedExpert && { sharedGate: undefined }) });
    using captured = layer.capture(tokens, { logits: true, residual: true });
    expect(await captured.logits?.data()).toEqual(new Float32Array(tokens * experts));
    for (const seed of ["a", "b"]) {
      const [x, logits] = [drawn(seed, [tokens, hidden]), drawn(`logits ${seed}`, [tokens, experts])];
      captured.x.write(await x.data());
      captured.logits?.write(await logits.data());
      captured.replay();
      expect(await captured.y.data()).toEqual(await layer.forward(x, { logits, residual: true }).data());
    }
    using other = layer.capture(tokens);
    expect(other.logits).toBeUndefined();
  });

  test.each([["bf16", "f32"], ["f16", "f32"], ...(name === "reference" ? [["f64", "f64"]] : [])] as [
    FloatDType,
    FloatDType,
  ][])("tokens in %s take logits in %s, any number of them", async (dtype, ofLogits) => {
    using layer = drawnLayer(device(), { normalize: true }, dtype);
    for (const count of [0, 1, 40]) {
      const x = drawnTensor(device(), "x", [count, hidden], dtype);
      const logits = drawnTensor(device(), "logits", [count, experts], ofLogits) as Tensor<"f32">;
      const { y, routing } = layer.forward(x, { logits, want: ["routing"] });
      expectSameRouted(name, await layer.forward(x, { routing }).data(), await y.data(), 1e-2);
    }
  });

  test("what makes no sense is refused by name", () => {
    using layer = layerOf();
    const [x, logits] = [drawn("x", [tokens, hidden]), drawn("logits", [tokens, experts])];
    const bad = (options: ForwardOptions<"f32">, message: RegExp) =>
      expectError(() => layer.forward(x, { logits, ...options }), "INVALID_ARGUMENT", message);
    bad({ routing: layer.route(x) }, /logits cannot be combined with routing/);
    bad({ save: true }, /logits cannot be combined with save/);
    bad({ training: { seed: 1 } }, /training/);
    bad({ routerInput: x }, /logits cannot be combined with routerInput/);
    using noisy = layerOf({ noisy: {} });
    for (const call of [noisy.forward.bind(noisy), noisy.route.bind(noisy)]) {
      const message = /logits cannot be combined with training/;
      expectError(() => call(x, { logits, training: { seed: 1 } }), "INVALID_ARGUMENT", message);
    }
    using grouped = layerOf({ topK: 4, hierarchy: { numGroups: 2, topK: 2 } });
    for (const call of [grouped.forward.bind(grouped), grouped.route.bind(grouped)]) {
      expectError(() => call(x, { logits }), "INVALID_ARGUMENT", /logits requires a layer without hierarchy/);
    }
    expectError(
      () => grouped.capture(tokens, { logits: true }),
      "INVALID_ARGUMENT",
      /requires a layer without hierarchy/,
    );
    const ids = device().zeros([tokens, experts], "i32");
    expectError(() => layer.forward(x, { logits: ids as never }), "UNSUPPORTED_DTYPE", /logits: expected dtype f32/);
    for (const shape of [[tokens, experts - 1], [tokens - 1, experts], [tokens * experts]]) {
      const wrong = drawn("logits", shape);
      expectError(() => layer.route(x, { logits: wrong }), "SHAPE_MISMATCH", /logits: expected shape \[6, 6\]/);
    }
    expectError(() => layer.forward(x, { logits: [1] as never }), "INVALID_ARGUMENT", /logits: expected a Tensor/);
    using elsewhere = openDevice("reference");
    const foreign = elsewhere.zeros([tokens, experts], "f32");
    expectError(() => layer.forward(x, { logits: foreign }), "DEVICE_MISMATCH", /logits/);
    const memory = drawn("logits", [tokens * hidden]);
    const [out, overlapping] = [memory.reshape([tokens, hidden]), memory.rows(0, tokens * experts)];
    const within = overlapping.reshape([tokens, experts]);
    expectError(() => layer.forward(x, { logits: within, out }), "INVALID_ARGUMENT", /out/);
    logits.dispose();
    expectError(() => layer.forward(x, { logits }), "DISPOSED", /tensor \[6, 6\]: used after dispose/);
  });
});
