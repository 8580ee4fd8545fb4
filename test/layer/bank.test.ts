import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ExpertRange } from "../../lib/core/layer/expert_range.js";
import type { MoeLayerOptions } from "../../lib/layer/create.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import type { Training } from "../../lib/layer/router/training.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { bankOptions, banksOf, optionsOf, sumOf } from "../support/banks.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { anyLayer, RandomLayer } from "../support/random_layer.js";
import { errorWithin, roundingBounds } from "../support/rounding_bounds.js";

const base = { hiddenSize: 37, intermediateSize: 19, numExperts: 8, topK: 3 } as const;
const configs: Readonly<Record<string, [MoeLayerConfig, Training?]>> = {
  capacity: [{ ...base, capacity: { factor: 0.5 } }],
  "capacity by probability": [{ ...base, capacity: { tokens: 3, drop: "probability" } }],
  "expert choice": [{ ...base, topK: 8, expertChoice: { factor: 2 } }],
  hierarchy: [{ ...base, topK: 4, hierarchy: { numGroups: 4, topK: 2 } }],
  "noisy hierarchy": [{ ...base, topK: 4, hierarchy: { numGroups: 4, topK: 2 }, noisy: {} }, { seed: 3 }],
  jitter: [{ ...base, routerJitter: 0.1 }, { seed: 4 }],
  "shared, softmax gate": [{ ...base, sharedExpert: { intermediateSize: 40, gate: "softmax" } }],
  "shared, without the others' limit": [
    {
      ...base,
      activation: "swiglu_clamped",
      clamp: { limit: 0.5 },
      sharedExpert: { intermediateSize: 40, clamp: { limit: Number.POSITIVE_INFINITY } },
    },
  ],
  "shared, sigmoid gate": [{ ...base, sharedExpert: { intermediateSize: 40, gate: "sigmoid" } }],
};

describe.each(kernelPaths)("banks of a layer on $label", (path) => {
  const device = openForTests(path);
  const reference = openForTests("reference");

  test("add up to the layer, whatever it has", () => {
    const begins = fc.array(fc.integer({ min: 1, max: 11 }), { maxLength: 3 });
    fc.assert(
      fc.property(anyLayer, begins, (drawn, begins) => {
        const problem = { ...drawn, dtype: "f32" } as const;
        using random = new RandomLayer(device(), problem);
        const { ids, weights } = random.layer.route(random.x);
        const routed = { x: random.x.dataSync(), ids: ids.dataSync(), weights: weights.dataSync() };
        const bounds = roundingBounds(reference(), problem, routed);
        using whole = random.layer.forward(random.x);
        const outputs = banksOf(problem.config.numExperts, begins).map((bank) => {
          using layer = MoeLayer.create(bankOptions(random.options, bank));
          expect(layer.description.bank).toEqual(bank);
          const routing = layer.route(random.x);
          expect(routing.ids.dataSync()).toEqual(ids.dataSync());
          expect(routing.weights.rawSync()).toEqual(weights.rawSync());
          using share = layer.forward(random.x);
          using given = layer.forward(random.x, { routing });
          expect(errorWithin(given.dataSync(), share.dataSync(), bounds)).toBeLessThanOrEqual(1);
          return share.dataSync();
        });
        expect(errorWithin(sumOf(outputs), whole.dataSync(), bounds)).toBeLessThanOrEqual(1);
      }),
      { numRuns: 40 },
    );
  });

  test.each(Object.keys(configs))("add up with %s, captured too", (name) => {
    const [config, training] = configs[name] as [MoeLayerConfig, Training?];
    const options = optionsOf(device(), config);
    const tokens = new Random(9).normals(21 * config.hiddenSize);
    using x = device().tensor(tokens, [21, config.hiddenSize]);
    const input = training === undefined ? {} : { training };
    using whole = MoeLayer.create(options);
    const { ids } = whole.route(x, input);
    using y = whole.forward(x, input);
    const outputs = banksOf(config.numExperts, [1, 4]).map((bank) => {
      using layer = MoeLayer.create(bankOptions(options, bank));
      expect(layer.route(x, input).ids.dataSync()).toEqual(ids.dataSync());
      using share = layer.forward(x, input);
      if (training === undefined) {
        using captured = layer.capture(21);
        captured.x.write(tokens);
        captured.replay();
        expect(captured.y.rawSync()).toEqual(share.rawSync());
      }
      return share.dataSync();
    });
    expect(relativeError(sumOf(outputs), y.dataSync())).toBeLessThanOrEqual(1e-4);
  });

  test("hold only their own experts", () => {
    const options = optionsOf(device(), base);
    using whole = MoeLayer.create(options);
    using bank = MoeLayer.create(bankOptions(options, { first: 2, count: 2 }));
    device().synchronizeSync();
    expect(bank.byteLength).toBeLessThan(0.3 * whole.byteLength);
  });

  test("take ids of other experts, and report ids that are not an expert's", () => {
    const options = optionsOf(device(), base);
    using layer = MoeLayer.create(bankOptions(options, { first: 2, count: 2 }));
    using x = device().tensor(new Random(1).normals(base.hiddenSize), [1, base.hiddenSize]);
    const forward = (id: number) => {
      const routing = { ids: device().tensor(Int32Array.of(id), [1, 1]), weights: device().tensor([[1]]) };
      using y = layer.forward(x, { routing });
      return y.dataSync();
    };
    for (const id of [-1, 0, 1, 4, 7]) expect(forward(id).every((value) => value === 0)).toBe(true);
    for (const id of [2, 3]) expect(forward(id).some((value) => value !== 0)).toBe(true);
    for (const id of [8, -2]) expectError(() => forward(id), "ID_OUT_OF_RANGE", /expected -1 or an expert from 0 to 7/);
  });
});

describe("invalid banks", () => {
  const device = openForTests("reference");
  const create = (bank: unknown, more: Partial<MoeLayerOptions> = {}) => {
    const config = { ...base, sharedExpert: { intermediateSize: 8, gate: "sigmoid" } } as const;
    const options = { ...optionsOf(device(), config), ...more };
    return () => MoeLayer.create({ ...options, bank: bank as ExpertRange });
  };

  test.each<[unknown, RegExp]>([
    [{ first: -1, count: 2 }, /^bank\.first: expected an integer >= 0, got -1$/],
    [{ first: 0, count: 0 }, /^bank\.count: expected an integer >= 1, got 0$/],
    [{ first: 6, count: 3 }, /^bank: expected experts within 0 to 7, got 6 to 8$/],
    [{ first: 0 }, /^bank\.count: expected an integer/],
    [{ first: 0, count: 2, last: 1 }, /^bank: there is no option "last"/],
    [[0, 4], /^bank: expected an object/],
  ])("%j", (bank, message) => {
    expectError(create(bank), "INVALID_ARGUMENT", message);
  });

  test("a wrong number of experts, and a shared expert where it does not belong", () => {
    expectError(
      create({ first: 0, count: 4 }),
      "SHAPE_MISMATCH",
      /^experts\.gate: expected shape \[4, 19, 37\], got \[8/,
    );
    expectError(create({ first: 0, count: 4 }, { experts: [] }), "INVALID_ARGUMENT", /^experts: expected 4 experts/);
    const options = optionsOf(device(), { ...base, sharedExpert: { intermediateSize: 8 } });
    const { shared } = options;
    const bank = bankOptions(options, { first: 4, count: 4 });
    expectError(
      () => MoeLayer.create({ ...bank, ...(shared && { shared }) }),
      "INVALID_ARGUMENT",
      /^shared requires a bank that begins with expert 0$/,
    );
  });
});
