import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { drops } from "../../lib/core/layer/routing_rule.js";
import type { Capacity } from "../../lib/operators/routing/capacity.js";
import { expertChoice } from "../../lib/operators/routing/expert_choice.js";
import { limitCapacity } from "../../lib/operators/routing/limit_capacity.js";
import { relativeError } from "../../lib/testing/difference.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { exampleConfig, type LayerProblem, RandomLayer } from "../support/random_layer.js";

/** The effect of rounding routing weights to float32 on `reference`; other devices compute with rounded weights. */
const roundedWeights = 1e-6;

const example = (changes: Partial<LayerProblem["config"]>): LayerProblem => ({
  config: { ...exampleConfig, ...changes },
  tokens: 12,
  dtype: "f32",
  seed: 7,
});

describe.each(kernelPaths)("routing of a layer on $label", (path) => {
  const device = openForTests(path);

  test("with a capacity: the router's choice, limited", () => {
    const anyCapacity: fc.Arbitrary<Capacity> = fc.record({
      tokens: fc.integer({ min: 0, max: 12 }),
      per: fc.constantFrom("batch" as const, "sequence" as const),
      drop: fc.constantFrom(...drops),
      renormalize: fc.boolean(),
    });
    fc.assert(
      fc.property(anyCapacity, fc.constantFrom(1, 2, 3), (capacity, sequences) => {
        using plain = new RandomLayer(device(), example({}));
        using limited = new RandomLayer(device(), example({ capacity }));
        const { numTokens, hidden } = { numTokens: 12, hidden: exampleConfig.hiddenSize };
        using x = plain.x.reshape([sequences, numTokens / sequences, hidden]);
        const perSequence = capacity.per === "sequence" ? { sequenceLength: numTokens / sequences } : {};
        const options = { ...capacity, ...perSequence, numExperts: exampleConfig.numExperts };
        const expected = limitCapacity(plain.layer.route(plain.x), options);
        const actual = limited.layer.route(x);
        expect(actual.ids.toArraySync()).toEqual(expected.ids.toArraySync());
        expect(actual.weights.toArraySync()).toEqual(expected.weights.toArraySync());

        using y = limited.layer.forward(x);
        expect(y.shape).toEqual(x.shape);
        using given = plain.layer.forward(plain.x, { routing: expected });
        expect(y.dataSync()).toEqual(given.dataSync());
      }),
      { numRuns: 20 },
    );
  });

  test("a capacity of 0 gives zeros, a capacity for all changes nothing", () => {
    using plain = new RandomLayer(device(), example({}));
    using none = new RandomLayer(device(), example({ capacity: { tokens: 0 } }));
    using all = new RandomLayer(device(), example({ capacity: { factor: exampleConfig.numExperts } }));
    expect(none.layer.forward(none.x).dataSync()).toEqual(new Float32Array(plain.x.size));
    const [limited, unlimited] = [all.layer.forward(all.x), plain.layer.forward(plain.x)];
    expect(relativeError(limited.dataSync(), unlimited.dataSync())).toBeLessThanOrEqual(roundedWeights);
  });

  test("a given routing is used unchanged", () => {
    using plain = new RandomLayer(device(), example({}));
    using none = new RandomLayer(device(), example({ capacity: { tokens: 0 } }));
    const routing = plain.layer.route(plain.x);
    const y = none.layer.forward(none.x, { routing });
    const expected = plain.layer.forward(plain.x);
    expect(relativeError(y.dataSync(), expected.dataSync())).toBeLessThanOrEqual(roundedWeights);
  });

  test.each([undefined, { intermediateSize: 20 }])(
    "a routing has any number of choices, shared expert %o",
    (shared) => {
      using random = new RandomLayer(device(), example(shared ? { sharedExpert: shared } : {}));
      const { layer, x } = random;
      const { topK, numExperts } = exampleConfig;
      const tokens = x.shape[0] as number;
      const own = layer.route(x);
      const y = layer.forward(x, { routing: own }).dataSync();
      const widened = (width: number) => {
        const ids = new Int32Array(tokens * width).fill(-1);
        const weights = new Float32Array(tokens * width);
        for (let token = 0; token < tokens; token++) {
          const row = [token * topK, (token + 1) * topK] as const;
          ids.set(own.ids.dataSync().slice(...row), token * width + width - topK);
          weights.set(own.weights.dataSync().slice(...row), token * width + width - topK);
        }
        return { ids: device().tensor(ids, [tokens, width]), weights: device().tensor(weights, [tokens, width]) };
      };
      for (const width of [topK, topK + 1, 3 * numExperts]) {
        expect(layer.forward(x, { routing: widened(width) }).dataSync()).toEqual(y);
      }
      const none = { ids: device().zeros([tokens, 0], "i32"), weights: device().zeros([tokens, 0], "f32") };
      expectError(
        () => layer.forward(x, { routing: none }),
        "INVALID_ARGUMENT",
        /routing: expected at least one choice/,
      );
    },
  );

  test("expertChoice returns a routing, the same one as a layer with expertChoice", () => {
    using plain = new RandomLayer(device(), example({ normalize: false }));
    const choosing = { expertChoice: { factor: 2 }, topK: exampleConfig.numExperts, normalize: false };
    using random = new RandomLayer(device(), example(choosing));
    const routing = expertChoice(plain.layer.routerLogits(plain.x), { factor: 2 });
    const actual = random.layer.route(random.x);
    expect(actual.ids.toArraySync()).toEqual(routing.ids.toArraySync());
    expect(actual.weights.toArraySync()).toEqual(routing.weights.toArraySync());
    const y = random.layer.forward(random.x);
    expect(y.dataSync()).toEqual(plain.layer.forward(plain.x, { routing }).dataSync());
  });

  test("sequences of tokens give the same bits as the tokens one after another", () => {
    using random = new RandomLayer(device(), example({}));
    using x = random.x.reshape([3, 4, exampleConfig.hiddenSize]);
    const y = random.layer.forward(x);
    expect(y.shape).toEqual(x.shape);
    expect(y.dataSync()).toEqual(random.layer.forward(random.x).dataSync());
    expect(random.layer.route(x).ids.toArraySync()).toEqual(random.layer.route(random.x).ids.toArraySync());
    const out = device().empty([3, 4, exampleConfig.hiddenSize], "f32");
    expect(random.layer.forward(x, { out })).toBe(out);
    expect(out.dataSync()).toEqual(y.dataSync());
    const flat = device().empty(random.x.shape, "f32");
    const mismatch = () => random.layer.forward(x, { out: flat });
    expectError(mismatch, "SHAPE_MISMATCH", /out: expected shape \[3, 4, 33\], got \[12, 33\]/);
    using wrong = random.x.reshape([3, 2, 66]);
    expectError(
      () => random.layer.forward(wrong),
      "SHAPE_MISMATCH",
      /x: expected shape \[B, S, 33\], got \[3, 2, 66\]/,
    );
    using four = random.x.reshape([1, 3, 4, 33]);
    expectError(() => random.layer.forward(four), "SHAPE_MISMATCH", /x: expected shape \[T, 33\], got \[1, 3, 4, 33\]/);
  });

  test("configurations that make no sense", () => {
    const bad = (changes: object, message: RegExp) =>
      expectError(() => new RandomLayer(device(), example(changes)), "INVALID_ARGUMENT", message);
    bad({ capacity: 2 }, /capacity: expected an object such as/);
    bad({ capacity: {} }, /capacity\.factor: expected a finite number/);
    bad({ capacity: { tokens: 1, drop: "last" } }, /capacity\.drop: expected one of/);
    const choosing = { expertChoice: { factor: 1 }, topK: 6, normalize: false };
    bad({ expertChoice: true }, /expertChoice: expected an object such as/);
    bad({ ...choosing, expertChoice: {} }, /expertChoice\.factor: expected a finite number/);
    bad({ ...choosing, topK: 2 }, /topK: expected numExperts 6 with expertChoice, got 2/);
    bad({ ...choosing, scoring: "none" }, /scoring: expected "softmax" or "sigmoid" with expertChoice, got "none"/);
    bad({ ...choosing, normalize: true }, /normalize: expected false with expertChoice, got true/);
    bad({ ...choosing, scale: 2 }, /scale: expected 1 with expertChoice, got 2/);
    bad({ ...choosing, hierarchy: { numGroups: 2, topK: 1 } }, /hierarchy cannot be combined with expertChoice/);
    bad({ ...choosing, capacity: { tokens: 1 } }, /capacity cannot be combined with expertChoice/);
    bad({ ...choosing, groups: { count: 2, top: 2 } }, /groups cannot be combined with expertChoice/);
  });
});
