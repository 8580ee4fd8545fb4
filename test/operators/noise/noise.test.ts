import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { expertLoad } from "../../../lib/operators/noise/expert_load.js";
import { jitter } from "../../../lib/operators/noise/jitter.js";
import { noisyLogits } from "../../../lib/operators/noise/noisy_logits.js";
import { type RandomOptions, random } from "../../../lib/operators/noise/random.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

/** What a caller without types may pass. */
// biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
type Anything = any;

describe.each(kernelPaths)("random numbers on $label", (path) => {
  const device = openForTests(path);
  const draw = (count: number, options: RandomOptions) => random(device(), [count], options).dataSync() as Float32Array;

  test("any part of a sequence can be drawn on its own", () => {
    for (const distribution of ["uniform", "normal"] as const) {
      const whole = draw(2100, { seed: 5, distribution });
      for (const [offset, count] of [
        [0, 1],
        [1, 2],
        [3, 1030],
        [1021, 1079],
      ] as const) {
        expect(draw(count, { seed: 5, distribution, offset })).toEqual(whole.slice(offset, offset + count));
      }
    }
  });

  test("different seeds give different sequences, a number and an equal bigint the same", () => {
    const distribution = "uniform";
    const first = draw(8, { seed: 1, distribution });
    expect(draw(8, { seed: 1n, distribution })).toEqual(first);
    for (const seed of [2, 2 ** 32 + 1, 2n ** 63n + 1n]) expect(draw(8, { seed, distribution })).not.toEqual(first);
  });

  test("moments of 40,000 numbers, within five standard errors", () => {
    const count = 40_000;
    const moments = (values: Float32Array, center: number) => ({
      mean: values.reduce((sum, value) => sum + value, 0) / count,
      variance: values.reduce((sum, value) => sum + (value - center) ** 2, 0) / count,
    });
    const uniform = moments(draw(count, { seed: 3, distribution: "uniform" }), 0.5);
    expect(Math.abs(uniform.mean - 0.5)).toBeLessThan(5 * Math.sqrt(1 / 12 / count));
    expect(Math.abs(uniform.variance - 1 / 12)).toBeLessThan(5 * Math.sqrt(1 / 180 / count));
    const normal = moments(draw(count, { seed: 3, distribution: "normal" }), 0);
    expect(Math.abs(normal.mean)).toBeLessThan(5 * Math.sqrt(1 / count));
    expect(Math.abs(normal.variance - 1)).toBeLessThan(5 * Math.sqrt(2 / count));
  });

  test("jitter multiplies by 1 - epsilon .. 1 + epsilon, number by number; zeros, infinities and NaN stay", () => {
    const x = device().tensor(new Float32Array(1200).fill(1), [40, 30]);
    const y = jitter(x, { epsilon: 0.25, seed: 9 }).dataSync();
    const uniform = draw(1200, { seed: 9, distribution: "uniform" });
    y.forEach((value, index) => {
      expect(value).toBeCloseTo(0.75 + 0.5 * (uniform[index] as number), 6);
    });
    const special = [[0, infinity, -infinity, nan]];
    expect(jitter(device().tensor(special), { epsilon: 0.5, seed: 1 }).toArraySync()).toEqual(special);
  });
});

describe.each(kernelPaths)("noisy top-k on $label", (path) => {
  const device = openForTests(path);

  test("noise from a seed is that of random()", () => {
    const [clean, spread] = [device().zeros([7, 9], "f32"), device().zeros([7, 9], "f32")];
    const noise = random(device(), [7, 9], { seed: 4, distribution: "normal" });
    const given = noisyLogits(clean, spread, { noise });
    const drawn = noisyLogits(clean, spread, { seed: 4 });
    expect(drawn.logits.dataSync()).toEqual(given.logits.dataSync());
  });

  test("the deviation is softplus plus epsilon, without overflow", () => {
    const clean = device().zeros([1, 6], "f32");
    const noise = device().tensor([[1, 1, 1, 1, 0, 1]]);
    const spread = device().tensor([[0, 200, -200, infinity, -infinity, nan]]);
    const { logits, deviation } = noisyLogits(clean, spread, { noise, epsilon: 0.5 });
    expect(deviation.toArraySync()).toEqual([[expect.closeTo(Math.LN2 + 0.5, 6), 200.5, 0.5, infinity, 0.5, nan]]);
    expect(logits.toArraySync()).toEqual([[expect.closeTo(Math.LN2 + 0.5, 6), 200.5, 0.5, infinity, 0, nan]]);
  });

  test("the load of one row by hand", () => {
    const clean = device().tensor([[1, 2, 3]]);
    const deviation = device().tensor([[1, 1, 1]]);
    const load = expertLoad(clean, clean, deviation, { topK: 1 }).dataSync();
    // Φ(1 - 3), Φ(2 - 3), Φ(3 - 2)
    [0.022750131948, 0.158655253931, 0.841344746069].forEach((expected, expert) => {
      expect(load[expert]).toBeCloseTo(expected, 6);
    });
  });

  test("if all experts are chosen, every token counts, unless its logit is NaN", () => {
    const noisy = device().tensor([
      [1, 2, 2],
      [nan, 0, -infinity],
    ]);
    const deviation = device().tensor(new Float32Array(6).fill(1), [2, 3]);
    expect(expertLoad(noisy, noisy, deviation, { topK: 3 }).toArraySync()).toEqual([1, 2, 1]);
  });

  test("probabilities are accurate in the tail", () => {
    const clean = device().tensor([[-6, 0]]);
    const deviation = device().tensor([[1, 1]]);
    const load = expertLoad(clean, clean, deviation, { topK: 1 }).dataSync();
    expect((load[0] as number) / 9.865876450377e-10).toBeCloseTo(1, 5);
  });

  test("a single group that all chose, with load T, is like no group", () => {
    const sizes = fc.integer({ min: 1, max: 40 }).chain((experts) =>
      fc.record({
        tokens: fc.integer({ min: 1, max: 150 }),
        experts: fc.constant(experts),
        topK: fc.integer({ min: 1, max: experts }),
        seed: fc.integer({ min: 0 }),
      }),
    );
    fc.assert(
      fc.property(sizes, ({ tokens, experts, topK, seed }) => {
        const normals = new Random(seed);
        const matrix = () => device().tensor(normals.normals(tokens * experts), [tokens, experts]);
        const [clean, spread] = [matrix(), matrix()];
        const { logits, deviation } = noisyLogits(clean, spread, { noise: matrix() });
        const groups = { ids: device().zeros([tokens, 1], "i32"), load: device().tensor([tokens]) };
        const load = expertLoad(clean, logits, deviation, { topK }).dataSync() as Float32Array;
        const grouped = expertLoad(clean, logits, deviation, { topK, groups }).dataSync() as Float32Array;
        expect(relativeError(grouped, load)).toBeLessThanOrEqual(1e-6);
        for (const value of load) expect(value >= 0 && value <= tokens).toBe(true);
        if (topK === experts) expect([...load]).toEqual(new Array(experts).fill(tokens));
      }),
      { numRuns: 30 },
    );
  });

  test("a group id out of range counts for no group and is reported", () => {
    const logits = device().tensor([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    const deviation = device().tensor(new Float32Array(6).fill(1), [3, 2]);
    const groups = { ids: device().tensor(Int32Array.of(-1, 0, 2, 1, -5, 0), [3, 2]), load: device().tensor([10, 20]) };
    const load = expertLoad(logits, logits, deviation, { topK: 1, groups });
    expectError(
      () => device().synchronizeSync(),
      "ID_OUT_OF_RANGE",
      /expertLoad: groups\.ids\[.*: expected -1 or a group from 0 to 1, got 2/,
    );
    expect(load.toArraySync()).toEqual([10, 20]);
  });
});

describe.each(deviceNames.filter((name) => name !== "reference"))("any number of threads on %s", (name) => {
  test("gives the same bits", () => {
    const [expected, ...others] = [1, 2, 5].map((threads) => {
      using device = openDevice(name, { threads, poison: true });
      const [clean, spread] = [1, 2].map((seed) => random(device, [700, 24], { seed, distribution: "normal" })) as [
        Tensor<"f32">,
        Tensor<"f32">,
      ];
      const { logits, deviation } = noisyLogits(clean, spread, { seed: 3 });
      const jittered = jitter(clean, { epsilon: 0.1, seed: 4 });
      const groups = { ids: device.zeros([700, 1], "i32"), load: device.tensor([1, 2, 3]) };
      const loads = [{ topK: 3 }, { topK: 3, groups }].map((options) => expertLoad(clean, logits, deviation, options));
      return [clean, logits, deviation, jittered, ...loads].map((tensor) => tensor.dataSync());
    });
    for (const other of others) expect(other).toEqual(expected);
  });
});

describe.each(deviceNames)("bad arguments of noise on %s", (name) => {
  const device = openForTests(name);
  const floats = (...shape: number[]): Tensor<"f32"> => device().zeros(shape, "f32");
  const bad = (call: () => unknown, message: RegExp) => expectError(call, "INVALID_ARGUMENT", message);
  const mismatch = (call: () => unknown, message: RegExp) => expectError(call, "SHAPE_MISMATCH", message);

  test("seeds", () => {
    for (const seed of [-1, 0.5, 2 ** 53, nan, "1", undefined, -1n, 2n ** 64n] as Anything[]) {
      const message = /seed: expected an integer from 0 to 2\^53 - 1 or a bigint from 0 to 2\^64 - 1, got/;
      bad(() => random(device(), [2], { seed, distribution: "normal" }), message);
      bad(() => jitter(floats(1, 1), { seed, epsilon: 0.1 }), message);
      if (seed !== undefined) bad(() => noisyLogits(floats(1, 1), floats(1, 1), { seed }), message);
    }
  });

  test("random", () => {
    const options = { seed: 1, distribution: "normal" } as const;
    bad(() => random(floats(1) as Anything, [1], options), /device: expected a Device/);
    bad(() => random(device(), [-1], options), /shape: expected at most 4 integers >= 0/);
    bad(() => random(device(), [1], undefined as Anything), /options: expected an object/);
    bad(
      () => random(device(), [1], { ...options, distribution: "cauchy" as Anything }),
      /distribution: expected one of/,
    );
    bad(() => random(device(), [1], { ...options, offset: -1 }), /offset: expected an integer from 0/);
    bad(() => random(device(), [2], { ...options, offset: 2 ** 53 - 2 }), /offset: .*got 9007199254740990/);
    mismatch(() => random(device(), [3], { ...options, out: floats(4) }), /out: expected shape \[3\], got \[4\]/);
  });

  test("jitter", () => {
    for (const epsilon of [-0.1, 1, nan, "0.1", undefined] as Anything[]) {
      bad(() => jitter(floats(1, 1), { epsilon, seed: 1 }), /epsilon: expected a number from 0 to less than 1, got/);
    }
    mismatch(() => jitter(floats(3), { epsilon: 0.1, seed: 1 }), /x: expected shape \[T, H\], got \[3\]/);
    const x = floats(2, 2);
    bad(() => jitter(x, { epsilon: 0.1, seed: 1, out: x }), /out: expected memory of its own/);
  });

  test("noisyLogits", () => {
    const [clean, noise] = [floats(2, 3), floats(2, 3)];
    bad(() => noisyLogits(clean, noise, {}), /options: expected exactly one of noise and seed, got neither/);
    bad(() => noisyLogits(clean, noise, { noise, seed: 1 }), /exactly one of noise and seed, got both/);
    bad(() => noisyLogits(clean, noise, { noise, offset: 1 }), /^offset cannot be combined with noise$/);
    bad(() => noisyLogits(clean, noise, { seed: 1, epsilon: -1 }), /epsilon: expected a finite number >= 0, got -1/);
    bad(
      () => noisyLogits(clean, noise, { noise, out: { logits: noise, deviation: clean } }),
      /out\.logits: .*overlaps/,
    );
    mismatch(() => noisyLogits(clean, floats(3, 2), { seed: 1 }), /spread: expected shape \[2, 3\], got \[3, 2\]/);
    mismatch(() => noisyLogits(clean, noise, { noise: floats(2, 2) }), /noise: expected shape \[2, 3\]/);
    const half = device().zeros([2, 3], "bf16") as Anything;
    expectError(
      () => noisyLogits(half, noise, { seed: 1 }),
      "UNSUPPORTED_DTYPE",
      /clean: expected dtype f32, got bf16/,
    );
  });

  test("expertLoad", () => {
    const [clean, ids] = [floats(2, 6), device().zeros([2, 1], "i32")];
    const load = (options: Anything) => () => expertLoad(clean, clean, clean, options);
    bad(load(undefined), /options: expected an object/);
    bad(load({ topK: 7 }), /topK: expected an integer from 1 to 6, got 7/);
    bad(load({ topK: 4, groups: { ids, load: floats(2) } }), /topK: expected an integer from 1 to 3, got 4/);
    bad(load({ topK: 1, groups: { ids, load: floats(4) } }), /groups\.load: .*divisor of 6 experts, got 4/);
    bad(load({ topK: 1, groups: { ids, load: floats(0) } }), /groups\.load: .*divisor of 6 experts, got 0/);
    bad(load({ topK: 1, groups: { load: floats(2) } }), /groups\.ids: expected a Tensor/);
    mismatch(
      load({ topK: 1, groups: { ids: ids.rows(0, 1), load: floats(2) } }),
      /groups\.ids: expected shape \[2, k1\]/,
    );
    mismatch(() => expertLoad(clean, floats(2, 5), clean, { topK: 1 }), /noisy: expected shape \[2, 6\], got \[2, 5\]/);
    mismatch(
      () => expertLoad(clean, clean, clean, { topK: 1, out: floats(5) }),
      /out: expected shape \[6\], got \[5\]/,
    );
  });
});
