import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../../lib/devices.js";
import { expertLoad } from "../../../lib/operators/noise/expert_load.js";
import {
  expertLoadBackward,
  type GroupedExpertLoadGradients,
} from "../../../lib/operators/noise/expert_load_backward.js";
import { jitter } from "../../../lib/operators/noise/jitter.js";
import { noisyLogits } from "../../../lib/operators/noise/noisy_logits.js";
import { noisyLogitsBackward } from "../../../lib/operators/noise/noisy_logits_backward.js";
import { cvSquaredBackward } from "../../../lib/operators/statistics/cv_squared_backward.js";
import { cvSquared } from "../../../lib/operators/statistics/imbalance.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { dot, gradientError } from "../../support/central_differences.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const reference = openDevice("reference", { poison: true });
const tolerance = 1e-6;

describe("in float64", () => {
  test("noisyLogitsBackward is the derivative by the spread, and dLogits that by the clean logits", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.boolean(), fc.nat(), (experts, drawn, seed) => {
        const random = new Random(seed);
        const matrix = (values: Float64Array) => float64(reference, values, [1, experts]);
        const [clean, spread, dLogits, dDeviation] = [1, 3, 1, 1].map((deviation) =>
          normals(random, experts, deviation),
        ) as [Float64Array, Float64Array, Float64Array, Float64Array];
        const source = drawn ? { seed, offset: 3 } : { noise: matrix(normals(random, experts)) };
        const loss = (a: Float64Array, b: Float64Array) => {
          const { logits, deviation } = noisyLogits(matrix(a), matrix(b), source);
          return dot(valuesOf(logits), dLogits) + dot(valuesOf(deviation), dDeviation);
        };
        const options = { ...source, dDeviation: matrix(dDeviation) };
        const dSpread = valuesOf(noisyLogitsBackward(matrix(spread), matrix(dLogits), options));
        expect(gradientError(dSpread, spread, (values) => loss(clean, values))).toBeLessThanOrEqual(tolerance);
        expect(gradientError(dLogits, clean, (values) => loss(values, spread))).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("expertLoadBackward is the derivative by all its inputs", () => {
    const sizes = fc.record({
      tokens: fc.integer({ min: 1, max: 4 }),
      size: fc.integer({ min: 1, max: 4 }),
      count: fc.integer({ min: 1, max: 3 }),
      rank: fc.nat(),
      grouped: fc.boolean(),
      masked: fc.boolean(),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(sizes, ({ tokens, size, count, rank, grouped, masked, seed }) => {
        const random = new Random(seed);
        const experts = size * count;
        const topK = 1 + (rank % (grouped ? size : experts));
        const matrix = (values: Float64Array) => float64(reference, values, [tokens, experts]);
        const [clean, noisy] = [normals(random, tokens * experts), normals(random, tokens * experts)];
        const deviation = Float64Array.from(clean, () => 0.3 + random.uniform());
        const groupLoad = Float64Array.from({ length: count }, () => random.uniform() * 3);
        const dLoad = normals(random, experts);
        const chosen = Array.from({ length: tokens }, () => random.sample(1, count + 1)[0] as number);
        const ids = reference.tensor(
          Int32Array.from(chosen, (id) => id - 1),
          [tokens, 1],
        );
        const tokenMask = reference.tensor(Uint8Array.from(chosen, () => random.integer(0, 2)));
        const options = (load: Float64Array) => ({
          topK,
          ...(masked && { tokenMask }),
          ...(grouped && { groups: { ids, load: float64(reference, load, [count]) } }),
        });
        const given = { clean, noisy, deviation, groupLoad };
        const loss = (change: Partial<typeof given>) => {
          const { clean: a, noisy: b, deviation: c, groupLoad: d } = { ...given, ...change };
          return dot(valuesOf(expertLoad(matrix(a), matrix(b), matrix(c), options(d))), dLoad);
        };
        const gradients = expertLoadBackward(
          matrix(clean),
          matrix(noisy),
          matrix(deviation),
          float64(reference, dLoad, [experts]),
          options(groupLoad),
        ) as GroupedExpertLoadGradients;
        for (const name of ["clean", "noisy", "deviation", "groupLoad"] as const) {
          if (name === "groupLoad" && !grouped) continue;
          const gradient = gradients[`d${name[0]?.toUpperCase()}${name.slice(1)}` as keyof typeof gradients];
          const error = gradientError(valuesOf(gradient), given[name], (values) => loss({ [name]: values }));
          expect(error, name).toBeLessThanOrEqual(tolerance);
        }
      }),
    );
  });

  test("the load loss goes back to clean logits and spread", () => {
    const [tokens, experts, topK] = [5, 4, 2];
    const random = new Random("load");
    const matrix = (values: Float64Array) => float64(reference, values, [tokens, experts]);
    const [clean, spread] = [normals(random, tokens * experts), normals(random, tokens * experts)];
    const noise = matrix(normals(random, tokens * experts));
    const load = (a: Float64Array, b: Float64Array) => {
      const { logits, deviation } = noisyLogits(matrix(a), matrix(b), { noise });
      return { logits, deviation, load: expertLoad(matrix(a), logits, deviation, { topK }) };
    };
    const loss = (a: Float64Array, b: Float64Array) => valuesOf(cvSquared(load(a, b).load))[0] as number;
    const { logits, deviation, load: values } = load(clean, spread);
    const { dClean, dNoisy, dDeviation } = expertLoadBackward(
      matrix(clean),
      logits,
      deviation,
      cvSquaredBackward(values),
      { topK },
    );
    const dSpread = noisyLogitsBackward(matrix(spread), dNoisy, { noise, dDeviation });
    const noisy = valuesOf(dNoisy);
    const whole = valuesOf(dClean).map((value, i) => value + (noisy[i] as number));
    expect(gradientError(whole, clean, (all) => loss(all, spread))).toBeLessThanOrEqual(tolerance);
    expect(gradientError(valuesOf(dSpread), spread, (all) => loss(clean, all))).toBeLessThanOrEqual(tolerance);
  });
});

describe.each(kernelPaths)("gradients of noise on $label", (path) => {
  const device = openForTests(path);
  const floats = (...shape: number[]) => device().zeros(shape, "f32");

  test("jitter is its own gradient", async () => {
    const options = { epsilon: 0.3, seed: 5 };
    const ones = device().tensor(new Float32Array(12).fill(1), [3, 4]);
    const factors = await jitter(ones, options).data();
    const dy = new Random("dy").normals(12);
    const dx = await jitter(device().tensor(dy, [3, 4]), options).data();
    const expected = dy.map((value, i) => value * (factors[i] as number));
    // The factors were rounded when they multiplied ones.
    expect(relativeError(dx, expected)).toBeLessThanOrEqual(2e-7);
  });

  test("a probability of 0 or 1 does not hide NaN", () => {
    const logits = device().tensor([[50, 0, 1]]);
    const deviation = device().tensor([[1, 1, 1]]);
    const dLoad = device().tensor([Number.NaN, 1, 1]);
    const { dClean, dNoisy, dDeviation } = expertLoadBackward(logits, logits, deviation, dLoad, { topK: 1 });
    const hasNaN = (rows: unknown) => (rows as number[][])[0]?.map(Number.isNaN);
    expect(hasNaN(dClean.toArraySync())).toEqual([true, false, false]);
    expect(hasNaN(dNoisy.toArraySync())).toEqual([false, false, true]);
    expect(hasNaN(dDeviation.toArraySync())).toEqual([true, false, false]);
  });

  test("bad arguments", () => {
    const both = { seed: 1, noise: floats(2, 3) };
    const call = (options: object) => () => noisyLogitsBackward(floats(2, 3), floats(2, 3), options);
    expectError(call(both), "INVALID_ARGUMENT", /^options: expected exactly one of noise and seed, got both/);
    expectError(call({ seed: 1, dDeviation: floats(2, 2) }), "SHAPE_MISMATCH", /^dDeviation: expected shape \[2, 3\]/);
    const load =
      (options: object, dLoad = floats(3)) =>
      () =>
        expertLoadBackward(floats(2, 3), floats(2, 3), floats(2, 3), dLoad, { topK: 1, ...options });
    expectError(load({ topK: 4 }), "INVALID_ARGUMENT", /^topK: expected an integer from 1 to 3/);
    expectError(load({}, floats(2)), "SHAPE_MISMATCH", /^dLoad: expected shape \[3\]/);
    const out = { dClean: floats(2, 3), dNoisy: floats(2, 3), dDeviation: floats(2, 3), dGroupLoad: floats(1) };
    expectError(load({ out }), "INVALID_ARGUMENT", /^out\.dGroupLoad requires groups/);
  });
});
