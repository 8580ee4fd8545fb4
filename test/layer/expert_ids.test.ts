import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FloatDType, type MoeLayer, type MoeLayerOptions, openDevice, type Tensor } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { drawnLayer, drawnSizes, drawnTensor, expectSameRouted } from "../support/drawn_layer.js";
import { expectError, expectRejection } from "../support/errors.js";
import { anyLayer, RandomLayer } from "../support/random_layer.js";

// Layers whose experts are given with the tokens, and whose router weighs them.

const tokens = 6;
const { hidden, inner, experts, topK } = drawnSizes;
type Config = Partial<MoeLayerOptions>;

/** Choices that no router would make: experts that are missing, there twice, and in any order. */
const anyIds = [
  [3, 0, 5],
  [1, -1, 4],
  [-1, -1, -1],
  [2, 2, 0],
  [5, 4, -1],
  [0, 1, 2],
];

/** Rules that give weights to any choice, and the same in plain words: from a token's logits and its experts. */
const softmax = (logits: readonly number[]) => {
  const powers = logits.map((logit) => Math.exp(logit));
  return powers.map((power) => power / powers.reduce((a, b) => a + b, 0));
};
const pick = (values: readonly number[], ids: readonly number[]) => ids.map((id) => values[id] as number);
const dividedBy = (values: readonly number[], divisor: number) => values.map((value) => value / divisor);
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const rules: readonly { config: Config; weigh: (logits: readonly number[], ids: readonly number[]) => number[] }[] = [
  { config: {}, weigh: (logits, ids) => pick(softmax(logits), ids) },
  {
    config: { normalize: true, scale: 2.5 },
    weigh: (logits, ids) => {
      const scores = pick(softmax(logits), ids);
      return dividedBy(scores, sum(scores) / 2.5);
    },
  },
  {
    config: { groups: { count: 3, top: 2 }, normalize: { by: "sum_plus_epsilon", epsilon: 0.25 } },
    weigh: (logits, ids) => {
      const scores = pick(softmax(logits), ids);
      return dividedBy(scores, sum(scores) + 0.25);
    },
  },
  { config: { scoring: "softmax_selected" }, weigh: (logits, ids) => softmax(pick(logits, ids)) },
  { config: { scoring: "sigmoid", selectionKey: "logit" }, weigh: (logits, ids) => pick(logits, ids).map(sigmoid) },
  {
    config: { scoring: "sigmoid", normalize: true, scale: 1.5, groups: { count: 2, top: 1, score: "top2_sum" } },
    weigh: (logits, ids) => {
      const scores = pick(logits, ids).map(sigmoid);
      return dividedBy(scores, sum(scores) / 1.5);
    },
  },
  {
    config: { scoring: "sqrt_softplus", normalize: { by: "lp", power: 2 } },
    weigh: (logits, ids) => {
      const scores = pick(logits, ids).map((logit) => Math.sqrt(Math.log1p(Math.exp(logit))));
      return dividedBy(scores, Math.hypot(...scores));
    },
  },
  { config: { scoring: "none", scale: 0.5 }, weigh: (logits, ids) => pick(logits, ids).map((logit) => 0.5 * logit) },
];

/** Whether a rule can have a selection bias, which is to have no part in the weights. */
const takesBias = ({ scoring, noisy, hashRouting }: Config) => scoring !== "sparsemixer" && !noisy && !hashRouting;

describe.each(deviceNames)("on %s", (name) => {
  const device = openForTests(name);

  const drawn = <D extends FloatDType = "f32">(seed: string, shape: number[], dtype = "f32" as D) =>
    drawnTensor(device(), seed, shape, dtype);
  const idsOf = (rows: readonly (readonly number[])[]) =>
    device().tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? topK]);

  const layerOf = (config: Config = {}, dtype: FloatDType = "f32") =>
    drawnLayer(device(), config.hashRouting ? { ...config, expertTable: idsOf(anyIds) } : config, dtype);

  test.each(rules)("any experts get the weights of their scores by $config", async ({ config, weigh }) => {
    using layer = layerOf({ ...config, selectionBias: drawn("bias", [experts]) });
    const x = drawn("x", [tokens, hidden]);
    const logits = (await layer.routerLogits(x).toArray()) as number[][];
    const expected = anyIds.map((ids, token) => {
      const own = weigh(
        logits[token] ?? [],
        ids.filter((id) => id >= 0),
      );
      return ids.map((id) => (id < 0 ? 0 : (own.shift() as number)));
    });
    const { ids, weights } = layer.route(x, { expertIds: idsOf(anyIds) });
    expect(await ids.toArray()).toEqual(anyIds);
    expect(relativeError(await weights.data(), expected.flat())).toBeLessThanOrEqual(3e-6);

    const y = await layer.forward(x, { expertIds: idsOf(anyIds) }).data();
    expect(relativeError(y, outputs((await x.toArray()) as number[][], anyIds, expected))).toBeLessThanOrEqual(1e-5);
  });

  /** Σ w · down(silu(gate x) · up x) over the experts of each token. */
  function outputs(x: number[][], ids: readonly number[][], weights: readonly number[][]): number[] {
    const matrix = (seed: string, rows: number, columns: number, expert: number) => {
      const all = new Random(seed).normals(experts * rows * columns, 0.3);
      const first = expert * rows * columns;
      return (row: number, column: number) => all[first + row * columns + column] as number;
    };
    const dot = (length: number, product: (index: number) => number) =>
      Array.from({ length }, (_, index) => product(index)).reduce((a, b) => a + b, 0);
    return x.flatMap((token, index) => {
      const result = new Array<number>(hidden).fill(0);
      ids[index]?.forEach((expert, slot) => {
        if (expert < 0) return;
        const [gate, up] = [matrix("gate", inner, hidden, expert), matrix("up", inner, hidden, expert)];
        const down = matrix("down", hidden, inner, expert);
        const rows = Array.from({ length: inner }, (_, i) => {
          const g = dot(hidden, (h) => gate(i, h) * (token[h] as number));
          return g * sigmoid(g) * dot(hidden, (h) => up(i, h) * (token[h] as number));
        });
        const weight = weights[index]?.[slot] as number;
        for (let h = 0; h < hidden; h++) {
          result[h] = (result[h] as number) + weight * dot(inner, (i) => down(h, i) * (rows[i] as number));
        }
      });
      return result;
    });
  }

  const replayed: readonly Config[] = [
    ...rules.map(({ config }) => config),
    { scoring: "sparsemixer", topK: 2, jitter: 1 },
    { sharedExpert: { intermediateSize: 20, gate: "sigmoid" }, normalize: true },
    { weightOn: "input" },
    { identityExperts: 2, scale: 3 },
    { latent: { size: 12 }, normalize: true },
    { separateRouterInput: true, routerNorm: { epsilon: 1e-6, scale: 0.5 }, perExpertScale: true, normalize: true },
    { capacity: { tokens: 2 } },
    { capacity: { factor: 0.7, per: "sequence", drop: "probability" }, scoring: "sigmoid", perExpertScale: true },
    { capacity: { tokens: 2, renormalize: true } },
  ];

  test.each(replayed)("what a layer chose gives the same again by %o", async (config) => {
    const biased = takesBias(config) && { selectionBias: drawn("bias", [experts]) };
    using layer = layerOf({ ...config, ...biased });
    const x = drawn("x", [2, 3, hidden]);
    const options = {
      ...(config.separateRouterInput && { routerInput: drawn("read", x.shape as number[]) }),
      norm: { weight: drawn("norm of x", [hidden]) },
      residual: true,
    };
    const dy = drawn("dy", x.shape as number[]);
    const run = async (given: { expertIds?: Tensor<"i32"> }) => {
      const { y, routing } = layer.forward(x, { ...options, ...given, want: ["routing"] });
      const saved = layer.forward(x, { ...options, ...given, save: true });
      const { dx, dRouterInput, gradients } = layer.backward(saved.state, dy);
      const { router, routerBias, expertScale, routerNormWeight } = gradients;
      const ofRouter = [router, routerBias, expertScale, routerNormWeight, dRouterInput, gradients.experts?.[0]?.down];
      const all = [y, saved.y, dx, ...ofRouter.filter((tensor) => tensor !== undefined), routing.weights];
      const values = await Promise.all((all as Tensor[]).map(async (tensor) => [...(await tensor.data())]));
      return { ids: routing.ids, values };
    };
    const own = await run({});
    const again = await run({ expertIds: own.ids });
    expect(await again.ids.toArray()).toEqual(await own.ids.toArray());
    expect(again.values.length).toBe(own.values.length);
    own.values.forEach((values, index) => {
      expectSameRouted(name, again.values[index] as number[], values);
      expect(values.some((value) => value !== 0)).toBe(true);
    });
  });

  if (name !== "reference")
    test("what any layer chose gives the same bits again", async () => {
      const property = fc.asyncProperty(anyLayer, async (problem) => {
        using drawn = new RandomLayer(device(), problem);
        const { layer, x } = drawn;
        const { y, routing } = layer.forward(x, { want: ["routing"] });
        const { ids: expertIds, weights } = layer.route(x);
        expect(await layer.route(x, { expertIds }).weights.data()).toEqual(await weights.data());
        expect(await layer.forward(x, { expertIds }).raw()).toEqual(await y.raw());
        expect(await routing.weights.data()).toEqual(await weights.data());
      });
      await fc.assert(property, { numRuns: name === "cpu" ? 200 : 40 });
    });

  test("noise is part of the weights of given experts, and of their gradients", async () => {
    for (const config of [{ noisy: {}, scoring: "softmax_selected" }, { routerJitter: 0.3 }] as const) {
      using layer = layerOf(config);
      const [x, dy] = [drawn("x", [tokens, hidden]), drawn("dy", [tokens, hidden])];
      const training = { seed: 3 };
      const run = async (given: { expertIds?: Tensor<"i32"> }) => {
        const { y, state, routing } = layer.forward(x, { training, ...given, save: true, want: ["routing"] });
        const { ids } = routing;
        const { gradients, dx } = layer.backward(state, dy);
        const { router, noiseRouter } = gradients;
        const all = [y, dx, router, noiseRouter].filter((tensor) => tensor !== undefined) as Tensor[];
        return { ids, values: await Promise.all(all.map(async (tensor) => await tensor.data())) };
      };
      const own = await run({});
      const again = await run({ expertIds: own.ids });
      own.values.forEach((values, index) => {
        expectSameRouted(name, [...(again.values[index] as Float32Array)], [...values]);
      });
      const quiet = await layer.forward(x, { expertIds: own.ids }).data();
      expect(relativeError(quiet, own.values[0] as Float32Array)).toBeGreaterThan(1e-3);
    }
  });

  test("given experts are the same as those of a table, bit for bit, gradients too", async () => {
    const rule = { scoring: "sqrt_softplus", normalize: true } as const;
    using hashed = layerOf({ ...rule, hashRouting: { vocabularySize: tokens } });
    using plain = layerOf(rule);
    const [x, dy] = [drawn("x", [tokens, hidden]), drawn("dy", [tokens, hidden])];
    const run = async (layer: MoeLayer, given: { expertIds?: Tensor<"i32">; tokenIds?: number[] }) => {
      const { y, state } = layer.forward(x, { ...given, save: true });
      const { dx, gradients } = layer.backward(state, dy);
      const results = [y, dx, gradients.router as Tensor, layer.forward(x, given)];
      return await Promise.all(results.map(async (tensor) => await tensor.data()));
    };
    const expected = await run(hashed, { tokenIds: [...Array(tokens).keys()] });
    expect(await run(plain, { expertIds: idsOf(anyIds) })).toEqual(expected);
    expect(await run(hashed, { expertIds: idsOf(anyIds) })).toEqual(expected);
  });

  test.each(["f32", "bf16"] as const)("a forward in %s is that of its routing, wherever it goes", async (dtype) => {
    using layer = layerOf({ normalize: true }, dtype);
    for (const shape of [
      [tokens, hidden],
      [3, 2, hidden],
      [0, hidden],
    ]) {
      const x = drawn("x", shape, dtype);
      const expertIds = idsOf(anyIds.slice(0, x.size / hidden));
      const routing = layer.route(x, { expertIds });
      const expected = await layer.forward(x, { routing }).raw();
      const out = device().empty(shape, dtype);
      const wanted = layer.forward(x, { expertIds, want: ["routing", "logits"], out });
      expect(await wanted.y.raw()).toEqual(expected);
      expect(await wanted.routing.ids.data()).toEqual(await expertIds.data());
      expect(await wanted.routing.weights.data()).toEqual(await routing.weights.data());
      expect(await wanted.logits.data()).toEqual(await layer.routerLogits(x).data());
      const residual = drawn("residual", shape);
      const norm = { weight: drawn("norm", [hidden]) };
      expect(await layer.forward(x, { expertIds, residual }).raw()).toEqual(
        await layer.forward(x, { routing, residual }).raw(),
      );
      const normed = layer.forward(x, { expertIds, norm, want: ["routing"] });
      expect(await normed.y.raw()).toEqual(await layer.forward(x, { routing: normed.routing, norm }).raw());
    }
  });

  test.each<Config>([
    {},
    { normalize: true, capacity: { tokens: 2 }, perExpertScale: true },
    { identityExperts: 2 },
    { latent: { size: 12 } },
    { hashRouting: { vocabularySize: tokens } },
  ])("a captured forward reads experts of its own by %o", async (config) => {
    using layer = layerOf(config);
    using captured = layer.capture(tokens, { expertIds: true, residual: true });
    expect(captured.tokenIds).toBeUndefined();
    expect(await captured.expertIds?.toArray()).toEqual(anyIds.map(() => [-1, -1, -1]));
    for (const ids of [anyIds, anyIds.toReversed()]) {
      const x = drawn(ids.join(), [tokens, hidden]);
      captured.x.write(await x.data());
      captured.expertIds?.write(Int32Array.from(ids.flat()));
      captured.replay();
      const expected = layer.forward(x, { expertIds: idsOf(ids), residual: true });
      expect(await captured.y.data()).toEqual(await expected.data());
      expect(await captured.expertIds?.toArray()).toEqual(ids);
    }
    using none = layer.capture(0, { expertIds: true });
    none.replay();
    expect((await none.y.data()).length).toBe(0);
    using other = layer.capture(tokens);
    expect(other.expertIds).toBeUndefined();
  });

  test("gradients are the same with recompute and offload, and the caller's ids are not counted", async () => {
    for (const capacity of [undefined, { tokens: 2, renormalize: true }]) {
      using layer = layerOf({ capacity, normalize: true });
      const [x, dy] = [drawn("x", [tokens, hidden]), drawn("dy", [tokens, hidden])];
      const run = async (options: object) => {
        const expertIds = idsOf(anyIds);
        const { state } = layer.forward(x, { expertIds, save: true, ...options });
        expertIds.dispose();
        const { byteLength } = state;
        const { dx, gradients } = layer.backward(state, dy, { gradLosses: { loadBalancingLoss: 0.1 } });
        return { byteLength, values: [await dx.data(), await (gradients.router as Tensor).data()] };
      };
      const { values } = await run({});
      expect(values[1]?.some((value) => value !== 0)).toBe(true);
      const recomputed = await run({ recompute: true });
      expect(recomputed.values).toEqual(values);
      // The weights, and what the capacity has left of the ids.
      expect(recomputed.byteLength).toBe(4 * tokens * topK * (capacity ? 2 : 1));
      expect((await run({ offload: true })).values).toEqual(values);
    }
  });

  test("banks add up to the layer, even where an expert is there twice", async () => {
    const x = drawn("x", [tokens, hidden]);
    const ids = anyIds.map(() => [0, 0, 3]);
    using layer = layerOf({ normalize: true });
    // One expert can have all of a token's slots.
    const shares = [
      { first: 0, count: 1 },
      { first: 1, count: 5 },
    ].map((bank) => layerOf({ normalize: true, bank }).forward(x, { expertIds: idsOf(ids) }));
    const [first, second] = (await Promise.all(shares.map(async (y) => await y.data()))) as [
      Float32Array,
      Float32Array,
    ];
    const total = first.map((value, index) => value + (second[index] as number));
    const expected = await layer.forward(x, { expertIds: idsOf(ids) }).data();
    expect(relativeError(total, expected)).toBeLessThanOrEqual(1e-6);
  });

  if (name === "simt")
    test("has the same bits with offload", async () => {
      const x = drawn("x", [tokens, hidden]);
      using whole = layerOf();
      using layer = layerOf({ offload: { slots: 2 } });
      const expected = await whole.forward(x, { expertIds: idsOf(anyIds) }).data();
      expect(await layer.forward(x, { expertIds: idsOf(anyIds) }).data()).toEqual(expected);
    });

  test("a capacity drops choices that are given as it drops others", async () => {
    using layer = layerOf({ capacity: { tokens: 1 }, normalize: true });
    const x = drawn("x", [tokens, hidden]);
    const all = Array.from({ length: tokens }, () => [1, 0, -1]);
    const { ids, weights } = layer.route(x, { expertIds: idsOf(all) });
    expect(await ids.toArray()).toEqual(all.map((row, token) => (token === 0 ? row : [-1, -1, -1])));
    using unlimited = layerOf({ normalize: true });
    const before = await unlimited.route(x, { expertIds: idsOf(all) }).weights.data();
    expect([...(await weights.data())]).toEqual([...before].map((weight, slot) => (slot < topK ? weight : 0)));
  });

  test("an id out of range is no expert and is reported", async () => {
    using layer = layerOf({ normalize: true });
    const x = drawn("x", [tokens, hidden]);
    for (const wrong of [experts, -2, 2 ** 31 - 1]) {
      const y = layer.forward(x, { expertIds: idsOf(anyIds.with(4, [5, wrong, -1])) });
      const message = new RegExp(
        `gatingWeights: routing\\.ids\\[4, 1\\]: expected -1 or an expert from 0 to 5, got ${wrong}`,
      );
      await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", message);
      const dropped = layer.forward(x, { expertIds: idsOf(anyIds.with(4, [5, -1, -1])) });
      expect(await y.data()).toEqual(await dropped.data());
    }
  });

  test("what makes no sense is refused by name", () => {
    const x = drawn("x", [tokens, hidden]);
    using layer = layerOf();
    const expertIds = idsOf(anyIds);
    const bad = (call: () => unknown, message: RegExp) => expectError(call, "INVALID_ARGUMENT", message);
    const routing = layer.route(x);
    bad(() => layer.forward(x, { expertIds, routing }), /expertIds cannot be combined with routing/);
    bad(() => layer.forward(x, { expertIds, tokenIds: [1] }), /tokenIds requires a layer with hashRouting/);
    using hashed = layerOf({ hashRouting: { vocabularySize: tokens } });
    const tokenIds = [0, 1, 2, 3, 4, 5];
    bad(() => hashed.forward(x, { expertIds, tokenIds }), /tokenIds cannot be combined with expertIds/);
    bad(() => hashed.route(x, { expertIds, tokenIds }), /tokenIds cannot be combined with expertIds/);
    for (const config of [
      { topK: 6, expertChoice: { tokens: 1 } },
      { topK: 4, hierarchy: { numGroups: 2, topK: 2 } },
    ] satisfies Config[]) {
      using other = layerOf(config);
      const message = /expertIds requires a layer without (expertChoice|hierarchy)/;
      bad(() => other.forward(x, { expertIds }), message);
      bad(() => other.route(x, { expertIds }), message);
      bad(() => other.capture(tokens, { expertIds: true }), message);
    }
    bad(() => layer.forward(x, { expertIds: anyIds as never }), /expertIds: expected a Tensor/);
    bad(() => layer.capture(tokens, { expertIds: expertIds as never }), /expertIds: expected a boolean, got Tensor/);
    expectError(
      () => layer.forward(x, { expertIds: x as never }),
      "UNSUPPORTED_DTYPE",
      /expertIds: expected dtype i32/,
    );
    for (const rows of [anyIds.slice(1), anyIds.map((row) => row.slice(1)), [...anyIds, [0, 1, 2]]]) {
      const wrong = idsOf(rows);
      for (const call of [layer.forward.bind(layer), layer.route.bind(layer)]) {
        expectError(() => call(x, { expertIds: wrong }), "SHAPE_MISMATCH", /expertIds: expected shape \[6, 3\]/);
      }
    }
    using elsewhere = openDevice("reference");
    const foreign = elsewhere.tensor(Int32Array.from(anyIds.flat()), [tokens, topK]);
    expectError(() => layer.forward(x, { expertIds: foreign }), "DEVICE_MISMATCH", /expertIds/);
    expertIds.dispose();
    expectError(() => layer.forward(x, { expertIds }), "DISPOSED", /tensor \[6, 3\]: used after dispose/);
  });
});
