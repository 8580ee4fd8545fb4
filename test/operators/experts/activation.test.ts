import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Activation, activations, isClamped, isGated } from "../../../lib/core/layer/activation.js";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { activate } from "../../../lib/operators/experts/activate.js";
import { activationBackward } from "../../../lib/operators/experts/activation_backward.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { activationBackwardCase } from "../../../lib/testing/cases/activation.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { runCase } from "../../../lib/testing/run.js";
import { centralDifferences, dot } from "../../support/central_differences.js";
import { deviceNames, kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
const reference = openDevice("reference", { poison: true });
const dtypes = ["f32", "f16", "bf16"] as const;

interface Problem {
  activation: Activation;
  rows: number;
  outputs: number;
  multiplied: boolean;
  seed: number;
}

const sizes = {
  activation: fc.constantFrom(...activations),
  rows: fc.integer({ min: 1, max: 3 }),
  outputs: fc.integer({ min: 1, max: 4 }),
  multiplied: fc.boolean(),
  seed: fc.nat(),
};
const clamp = { alpha: 1.3, limit: 1.5, upLimit: 1.2, offset: 0.5 };

/** An activation in float64, the gradients of its results, and the loss whose gradients these are. */
function activationOf({ activation, rows, outputs, multiplied, seed }: Problem) {
  const random = new Random(seed);
  const columns = isGated(activation) ? 2 * outputs : outputs;
  const pre = normals(random, rows * columns, 1.5);
  const multiplier = normals(random, rows * outputs);
  const dInner = normals(random, rows * outputs);
  const options = (by: Float64Array, as = activation) => ({
    activation: as,
    ...(isClamped(as) && { clamp }),
    ...(multiplied && { multiplier: float64(reference, by, [rows, outputs]) }),
  });
  const apply = (values: Float64Array, by = multiplier) =>
    valuesOf(activate(float64(reference, values, [rows, columns]), options(by)));
  const gradients = (as = activation) =>
    activationBackward(float64(reference, pre, [rows, columns]), float64(reference, dInner, [rows, outputs]), {
      ...options(multiplier, as),
      inner: true,
    });
  return {
    pre,
    multiplier,
    apply,
    gradients,
    loss: (...given: Parameters<typeof apply>) => dot(apply(...given), dInner),
  };
}

/** Whether differences can be taken: no value is close to where a derivative jumps. */
function isSmooth(pre: Float64Array, activation: Activation): boolean {
  const { limit, upLimit, alpha } = clamp;
  const clamped = [-upLimit, limit, upLimit];
  const kinks = { relu: [0], relu2: [0], reglu: [0], swiglu_clamped: clamped, swiglu_clamped_after: clamped } as const;
  const silus = activation === "swiglu_clamped_after" ? pre.map((gate) => gate / (1 + Math.exp(-alpha * gate))) : [];
  if (silus.some((silu) => Math.abs(silu - limit) <= 1e-3)) return false;
  const at: readonly number[] = kinks[activation as keyof typeof kinks] ?? [];
  return pre.every((value) => at.every((kink) => Math.abs(value - kink) > 1e-3));
}

describe("activationBackward in float64", () => {
  test("is the derivative of the activation, and gives it", () => {
    fc.assert(
      fc.property(fc.record(sizes), (problem) => {
        const { pre, multiplier, apply, loss, gradients } = activationOf(problem);
        fc.pre(isSmooth(pre, problem.activation));
        const { dPre, dMultiplier, inner } = gradients();
        expect(relativeError(valuesOf(dPre), centralDifferences(pre, loss), 1)).toBeLessThanOrEqual(1e-7);
        expect(relativeError(valuesOf(inner), apply(pre), 1)).toBeLessThanOrEqual(1e-14);
        expect(dMultiplier === undefined).toBe(!problem.multiplied);
        if (dMultiplier === undefined) return;
        const exact = centralDifferences(multiplier, (values) => loss(pre, values));
        expect(relativeError(valuesOf(dMultiplier), exact, 1)).toBeLessThanOrEqual(1e-7);
      }),
      { numRuns: 1000 },
    );
  });

  test("another activation's derivative would show, and so would a value's of one gate", () => {
    const others = {
      gelu: "gelu_tanh",
      gelu_tanh: "silu",
      silu: "gelu",
      swiglu: "geglu",
      geglu: "geglu_tanh",
    } as const;
    for (const [activation, other] of Object.entries(others) as [Activation, Activation][]) {
      const problem = { activation, rows: 3, outputs: 4, multiplied: true, seed: 5 };
      const { pre, loss, gradients } = activationOf(problem);
      const exact = centralDifferences(pre, loss);
      expect(relativeError(valuesOf(gradients().dPre), exact)).toBeLessThanOrEqual(1e-8);
      expect(relativeError(valuesOf(gradients(other).dPre), exact)).toBeGreaterThan(1e-4);
      expect(relativeError(valuesOf(gradients().dPre).fill(0, 0, 1), exact)).toBeGreaterThan(1e-4);
    }
  });
});

describe.each(kernelPaths)("activations on $label", (path) => {
  const device = openForTests(path);
  const floats = (...shape: number[]) => device().zeros(shape, "f32");

  test("any sizes and dtypes are as on reference", async () => {
    const problems = fc.record({
      activation: fc.constantFrom(...activations),
      rows: fc.integer({ min: 0, max: 9 }),
      outputs: fc.integer({ min: 0, max: 600 }),
      dtypes: fc.tuple(fc.constantFrom(...dtypes), fc.constantFrom(...dtypes), fc.constantFrom(...dtypes)),
      multiplier: fc.constantFrom(...dtypes),
    });
    await fc.assert(
      fc.asyncProperty(problems, fc.boolean(), fc.boolean(), async ({ multiplier, ...problem }, multiplied, inner) => {
        const given = multiplied ? { ...problem, multiplier } : problem;
        expect(await runCase(activationBackwardCase(given, { inner }), device())).toMatchObject({ passed: true });
      }),
      { numRuns: 60 },
    );
  });

  test.each(activations)("%s is the same as within a product", (activation) => {
    const outputs = 37;
    const columns = isGated(activation) ? 2 * outputs : outputs;
    const pre = device().tensor(new Random(7).normals(5 * columns, 4), [5, columns]);
    // A product with the identity gives pre itself.
    const identity = Float32Array.from({ length: columns ** 2 }, (_, i) => (i % (columns + 1) === 0 ? 1 : 0));
    const weight = device().tensor(identity, [1, columns, columns]);
    const fused = groupedGemm(pre, weight, device().tensor(Int32Array.of(0, 5)), { activation });
    expect(activate(pre, { activation }).dataSync()).toEqual(fused.dataSync());
  });

  test.each(activations)("inner of the gradient of %s is the activation", (activation) => {
    const columns = isGated(activation) ? 90 : 45;
    const random = new Random(8);
    const pre = device().tensor(random.normals(3 * columns, 4), [3, columns]);
    const multiplier = device().tensor(random.normals(3 * 45), [3, 45]);
    const { inner } = activationBackward(pre, floats(3, 45), { activation, multiplier, inner: true });
    expect(relativeError(inner.dataSync(), activate(pre, { activation, multiplier }).dataSync())).toBeLessThan(1e-6);
  });

  test.each(activations)("NaN stays in its element, and huge values have the limits of %s", (activation) => {
    const gated = isGated(activation);
    const given = [1, nan, -1e30, 1e30, 1e38, -1e38, -2, 3];
    const outputs = given.length;
    const gates = [given, [...given].reverse()];
    const ups = [1, 1, 1, 1, 1, 1, nan, 1];
    const pre = device().tensor(gates.map((row) => (gated ? [...row, ...ups] : row)));
    const dInner = device().tensor(
      [
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
      ].map((row) => row.with(0, nan)),
    );
    const { dPre, inner } = activationBackward(pre, dInner, { activation, inner: true });
    const [first] = dPre.toArraySync() as [number[]];
    const nans = given.map((_, i) => i === 0 || (i === 1 && activation !== "none") || (gated && i === 6));
    expect(first.slice(0, outputs).map(Number.isNaN)).toEqual(nans);
    const [values] = inner.toArraySync() as [number[]];
    expect(values.map(Number.isNaN)).toEqual(given.map((_, i) => i === 1 || (gated && i === 6)));
    const far = [2, 5].map((i) => Math.abs(values[i] as number));
    if (activation !== "none") expect(Math.max(...far)).toBeLessThan(1e-30);
    const at = { relu2: [0, 2e30, 2e38, 0], none: [1, 1, 1, 1] }[activation as string];
    const limits = at ?? (isClamped(activation) ? [0, 0, 0, 0] : [0, 1, 1, 0]);
    first.slice(2, 6).forEach((value, i) => {
      expect(value / (limits[i] || 1)).toBeCloseTo(limits[i] ? 1 : 0, 5);
    });
  });

  test("infinite values have the limits of the derivatives", () => {
    for (const activation of ["swiglu_clamped", "swiglu_clamped_after", "situ"] as const) {
      const clamp = { limit: infinity, upLimit: infinity, alpha: 1, offset: 0 };
      const pre = device().tensor([[-infinity, infinity, 1, 1]]);
      const { dPre } = activationBackward(pre, device().tensor([[1, 1]]), { activation, clamp });
      const [[below, above]] = dPre.toArraySync() as [[number, number]];
      expect(below).toBeCloseTo(0, 6);
      expect(above).toBeCloseTo(1, 6);
    }
    for (const activation of ["relu", "gelu", "gelu_tanh", "silu"] as const) {
      const ones = device().tensor([[1, 1]]);
      const { dPre } = activationBackward(device().tensor([[-infinity, infinity]]), ones, { activation });
      const [[below, above]] = dPre.toArraySync() as [[number, number]];
      expect(below).toBeCloseTo(0, 6);
      expect(above).toBeCloseTo(1, 6);
    }
  });

  test("relu has derivative 0 at 0; clamps pass at their limits and not beyond", () => {
    const derivative = (activation: Activation, row: number[], outputs: number) =>
      activationBackward(device().tensor([row]), device().tensor([new Array<number>(outputs).fill(1)]), {
        activation,
        ...(isClamped(activation) && { clamp: { alpha: 1, limit: 2, offset: 0 } }),
      }).dPre.toArraySync() as number[][];
    expect(derivative("relu", [0, -1, 2], 3)).toEqual([[0, 0, 1]]);
    expect(derivative("relu2", [0, -1, 2], 3)).toEqual([[0, 0, 4]]);
    const [row] = derivative("swiglu_clamped", [2, 2.5, 1, 1, 1, 1, 1, 2, -2, 2.5], 5) as [number[]];
    const slope = (x: number) => (1 / (1 + Math.exp(-x))) * (1 + x / (1 + Math.exp(x)));
    const silu = (x: number) => x / (1 + Math.exp(-x));
    const expected = [slope(2), 0, slope(1) * 2, slope(1) * -2, slope(1) * 2, silu(2), silu(2), silu(1), silu(1), 0];
    expect(relativeError(row, expected)).toBeLessThan(1e-6);
    // With alpha 0, SiLU is half the gate, so the limit is at 4.
    const after = activationBackward(device().tensor([[4, 4.5, -9, 2, -2, 2.5]]), device().tensor([[1, 1, 1]]), {
      activation: "swiglu_clamped_after",
      clamp: { alpha: 0, limit: 2 },
    }).dPre.toArraySync();
    expect((after as number[][])[0]?.map((value) => value + 0)).toEqual([1, 0, 1, 2, 2, 0]);
  });

  test.each(["swiglu_clamped", "swiglu_clamped_after", "situ"] as const)(
    "the rows of shared experts have the other clamp of %s",
    (activation) => {
      const random = new Random(4);
      const shape = [9, 80];
      const [values, gradients] = [random.normals(9 * 80, 3), random.normals(9 * 40)];
      const pre = device().tensor(values, shape);
      const dInner = device().tensor(gradients, [9, 40]);
      const offsets = device().tensor(Int32Array.of(0, 2, 5, 7, 9));
      const other = { limit: 0.5, upLimit: infinity };
      const run = (options: object) => {
        const { dPre, inner } = activationBackward(pre, dInner, { activation, ...options, inner: true });
        return [activate(pre, { activation, ...options }), dPre, inner].map((tensor) =>
          (tensor as Tensor).toArraySync(),
        );
      };
      const [own, theirs] = [run({ clamp }), run({ clamp: other })];
      const shared = run({ clamp, shared: { clamp: other, offsets, experts: 2 } });
      shared.forEach((rows, index) => {
        const [before, after] = [own[index] as number[][], theirs[index] as number[][]];
        expect(rows).toEqual([...before.slice(0, 5), ...after.slice(5)]);
        expect(before.slice(5)).not.toEqual(after.slice(5));
      });
      expect(run({ clamp, shared: { clamp: other, offsets, experts: 0 } })).toEqual(own);
      expect(run({ clamp, shared: { clamp: other, offsets, experts: 4 } })).toEqual(theirs);
    },
  );

  test("reglu is exact, and so are its derivatives", () => {
    const gates = [-1e9, -3, -1e-30, -0, 0, 1e-30, 0.3, 2.5, 1e9].map(Math.fround);
    const ups = gates.map((_, index) => index - 4.5);
    const pre = device().tensor([[...gates, ...ups]]);
    const dInner = device().tensor([gates.map(() => 3)]);
    const { inner, dPre } = activationBackward(pre, dInner, { activation: "reglu", inner: true });
    const exact = (values: number[]) => values.map((value) => Math.fround(value) + 0);
    const got = (tensor: Tensor | undefined) => [...(tensor as Tensor).dataSync()].map((value) => value + 0);
    expect(got(inner)).toEqual(exact(gates.map((gate, i) => Math.max(gate, 0) * (ups[i] as number))));
    expect(got(activate(pre, { activation: "reglu" }))).toEqual(got(inner));
    const dGates = gates.map((gate, i) => (gate > 0 ? 3 * (ups[i] as number) : 0));
    expect(got(dPre)).toEqual(exact([...dGates, ...gates.map((gate) => 3 * Math.max(gate, 0))]));
  });

  test("bad arguments", () => {
    const backward =
      (options: object, dInner = floats(2, 3), pre = floats(2, 6)) =>
      () =>
        activationBackward(pre, dInner, { activation: "swiglu", ...options });
    expectError(backward({}, floats(2, 6)), "SHAPE_MISMATCH", /^dInner: expected shape \[2, 3\], got \[2, 6\]/);
    expectError(backward({}, floats(2, 2), floats(2, 5)), "SHAPE_MISMATCH", /^pre: expected an even number of columns/);
    expectError(backward({ activation: "tanh" }), "INVALID_ARGUMENT", /^activation: expected one of/);
    expectError(backward({ multiplier: floats(2, 6) }), "SHAPE_MISMATCH", /^multiplier: expected shape \[2, 3\]/);
    const dPre = floats(2, 6);
    const pair = { dPre, inner: floats(2, 3) };
    expectError(backward({ out: pair }), "INVALID_ARGUMENT", /^out\.inner requires inner: true/);
    expectError(backward({ out: { dPre }, inner: true }), "INVALID_ARGUMENT", /^out\.inner: expected a Tensor/);
    const dMultiplier = floats(2, 3);
    expectError(backward({ out: { dPre, dMultiplier } }), "INVALID_ARGUMENT", /^out\.dMultiplier requires multiplier/);
    expectError(backward({ out: {} }), "INVALID_ARGUMENT", /^out\.dPre: expected a Tensor/);
    expectError(backward({ out: { dPre: floats(2, 3) } }), "SHAPE_MISMATCH", /^out\.dPre: expected shape \[2, 6\]/);
    const inPlace = backward({ out: { dPre } }, floats(2, 3), dPre);
    expectError(inPlace, "INVALID_ARGUMENT", /^out\.dPre: expected memory of its own/);
    const out = { dPre, inner: dMultiplier, dMultiplier };
    const twice = backward({ inner: true, multiplier: floats(2, 3), out });
    expectError(twice, "INVALID_ARGUMENT", /^out\.inner: expected memory of its own/);
    const call = (options: object) => () => activate(floats(2, 6), options as { activation: Activation });
    const offsets = device().tensor(Int32Array.of(0, 2));
    const shared = (more: object, activation = "situ") =>
      call({ activation, shared: { clamp: {}, offsets, experts: 1, ...more } });
    expectError(shared({}, "swiglu"), "INVALID_ARGUMENT", /^shared\.clamp requires the activation swiglu_clamped, /);
    expectError(shared({ experts: 2 }), "INVALID_ARGUMENT", /^shared\.experts: expected an integer from 0 to 1, got 2/);
    expectError(shared({ offsets: floats(2) }), "UNSUPPORTED_DTYPE", /^shared\.offsets: expected dtype i32, got f32/);
    expectError(call({}), "INVALID_ARGUMENT", /^activation: expected one of/);
    expectError(call({ activation: "swiglu", out: floats(2, 6) }), "SHAPE_MISMATCH", /^out: expected shape \[2, 3\]/);
  });
});

describe.each(deviceNames.filter((name) => name === "cpu"))("on %s", (name) => {
  const one = openForTests(name, { threads: 1 });
  const many = openForTests(name, { threads: 7 });

  test("the number of threads does not change a bit", () => {
    const random = new Random(3);
    const [pre, dInner] = [random.normals(40 * 2000, 2), random.normals(40 * 1000)];
    const bits = [one(), many()].map((device) => {
      const given = { activation: "geglu", inner: true } as const;
      const results = activationBackward(device.tensor(pre, [40, 2000]), device.tensor(dInner, [40, 1000]), given);
      return [results.dPre.dataSync(), results.inner.dataSync()];
    });
    expect(bits[0]).toEqual(bits[1]);
  });
});
