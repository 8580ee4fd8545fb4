import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../../lib/devices.js";
import { combine } from "../../../lib/operators/experts/combine.js";
import { combineBackward } from "../../../lib/operators/experts/combine_backward.js";
import { permute } from "../../../lib/operators/experts/permute.js";
import { permuteBackward } from "../../../lib/operators/experts/permute_backward.js";
import { sort } from "../../../lib/operators/routing/sort.js";
import { combineBackwardCase } from "../../../lib/testing/cases/rows.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomRouting } from "../../../lib/testing/inputs/random_routing.js";
import { runCase } from "../../../lib/testing/run.js";
import { centralDifferences, dot, gradientError } from "../../support/central_differences.js";
import { deviceNames, kernelPaths, openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const { NaN: nan } = Number;
const reference = openDevice("reference", { poison: true });
const dtypes = ["f32", "f16", "bf16"] as const;

const problems = fc.record({
  tokens: fc.integer({ min: 1, max: 4 }),
  topK: fc.integer({ min: 1, max: 3 }),
  hidden: fc.integer({ min: 1, max: 3 }),
  spread: fc.constantFrom("even" as const, "one_expert" as const, "some_dropped" as const, "all_dropped" as const),
  seed: fc.nat(),
});
type Problem = typeof problems extends fc.Arbitrary<infer T> ? T : never;

/** Sorted slots on `reference`. */
function sorted({ tokens, topK, spread, seed }: Problem) {
  const random = new Random(seed);
  const { ids } = randomRouting(random, tokens, topK, 5, spread);
  return { random, ...sort(reference.tensor(ids, [tokens, topK]), { numExperts: 5 }) };
}

describe("in float64", () => {
  test("combineBackward is the derivative of combine", () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const { tokens, topK, hidden } = problem;
        const { random, rowOfSlot } = sorted(problem);
        const [rowShape, slotShape, yShape] = [
          [tokens * topK, hidden],
          [tokens, topK],
          [tokens, hidden],
        ];
        const rows = normals(random, tokens * topK * hidden);
        const weights = normals(random, tokens * topK);
        const dy = normals(random, tokens * hidden);
        const loss = (a: Float64Array, b: Float64Array) =>
          dot(valuesOf(combine(float64(reference, a, rowShape), rowOfSlot, float64(reference, b, slotShape))), dy);
        const { dRows, dWeights } = combineBackward(
          float64(reference, rows, rowShape),
          rowOfSlot,
          float64(reference, weights, slotShape),
          float64(reference, dy, yShape),
        );
        expect(gradientError(valuesOf(dRows), rows, (values) => loss(values, weights))).toBeLessThanOrEqual(1e-8);
        expect(gradientError(valuesOf(dWeights), weights, (values) => loss(rows, values))).toBeLessThanOrEqual(1e-8);
      }),
    );
  });

  test("a slot's weight or row taken for another's would show", () => {
    const problem = { tokens: 4, topK: 2, hidden: 3, spread: "even", seed: 3 } as const;
    const { random, rowOfSlot } = sorted(problem);
    const rows = float64(reference, normals(random, 24), [8, 3]);
    const weights = normals(random, 8);
    const dy = normals(random, 12);
    const gradients = (by: Float64Array) =>
      combineBackward(rows, rowOfSlot, float64(reference, by, [4, 2]), float64(reference, dy, [4, 3]));
    const loss = (values: Float64Array) =>
      dot(valuesOf(combine(rows, rowOfSlot, float64(reference, values, [4, 2]))), dy);
    const exact = centralDifferences(weights, loss);
    const { dRows, dWeights } = gradients(weights);
    expect(relativeError(valuesOf(dWeights), exact)).toBeLessThanOrEqual(1e-8);
    expect(relativeError(valuesOf(dWeights).reverse(), exact)).toBeGreaterThan(0.01);
    const swapped = gradients(weights.map((_, i) => weights[i ^ 1] as number));
    expect(relativeError(valuesOf(swapped.dRows), valuesOf(dRows))).toBeGreaterThan(0.01);
  });

  test("permuteBackward is the derivative of permute", () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const { tokens, topK, hidden } = problem;
        const { random, tokenOfRow, rowOfSlot } = sorted(problem);
        const x = normals(random, tokens * hidden);
        const gradient = normals(random, tokens * topK * hidden);
        const loss = (values: Float64Array) =>
          dot(valuesOf(permute(float64(reference, values, [tokens, hidden]), tokenOfRow)), gradient);
        const dx = permuteBackward(float64(reference, gradient, [tokens * topK, hidden]), rowOfSlot);
        expect(gradientError(valuesOf(dx), x, loss)).toBeLessThanOrEqual(1e-8);
      }),
    );
  });
});

describe.each(kernelPaths)("gradients of rows on $label", (path) => {
  const device = openForTests(path);
  const floats = (...shape: number[]) => device().zeros(shape, "f32");
  const slots = (...rows: number[][]) =>
    device().tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);
  const dy = () =>
    device().tensor([
      [1, 2],
      [3, 4],
    ]);

  test("any sizes and dtypes are as on reference", async () => {
    const sizes = fc.record({
      tokens: fc.integer({ min: 0, max: 20 }),
      topK: fc.integer({ min: 1, max: 5 }),
      rows: fc.integer({ min: 0, max: 90 }),
      hidden: fc.integer({ min: 0, max: 400 }),
    });
    const dtype = fc.constantFrom(...dtypes);
    const want = fc.constantFrom("both" as const, "dRows" as const, "dWeights" as const);
    await fc.assert(
      fc.asyncProperty(sizes, fc.tuple(dtype, dtype, dtype), want, async (problem, types, wanted) => {
        const subject = combineBackwardCase(problem, types, wanted);
        expect(await runCase(subject, device())).toMatchObject({ passed: true });
      }),
      { numRuns: 60 },
    );
  });

  test("rows without a slot become zeros, and slots without a row have weight gradient 0", () => {
    const rows = device().tensor([
      [1, 1],
      [2, 0],
      [nan, nan],
      [0, 5],
    ]);
    const weights = device().tensor([
      [2, nan],
      [nan, -1],
    ]);
    const { dRows, dWeights } = combineBackward(rows, slots([3, -1], [-1, 0]), weights, dy());
    expect(dRows.toArraySync()).toEqual([
      [-3, -4],
      [0, 0],
      [0, 0],
      [2, 4],
    ]);
    expect(dWeights.toArraySync()).toEqual([
      [10, 0],
      [0, 7],
    ]);
    const none = combineBackward(rows, slots([-1, -1], [-1, -1]), weights, dy());
    expect(none.dRows.dataSync()).toEqual(new Float32Array(8));
    expect(none.dWeights.dataSync()).toEqual(new Float32Array(4));
  });

  test("with x for dy it is a weighted gather, of as many rows as there are slots", () => {
    const gathered = combineBackward(
      null,
      slots([1, 2], [0, -1]),
      device().tensor([
        [1, 10],
        [2, 3],
      ]),
      dy(),
      { want: "dRows" },
    );
    expect(Object.keys(gathered)).toEqual(["dRows"]);
    expect(gathered.dRows.toArraySync()).toEqual([
      [6, 8],
      [1, 2],
      [10, 20],
      [0, 0],
    ]);
  });

  test("NaN and huge values stay with their token", () => {
    const rows = device().tensor([
      [1, 1],
      [1e30, 1e30],
    ]);
    const given = device().tensor([
      [nan, 1],
      [1e30, 1e-30],
    ]);
    const { dRows, dWeights } = combineBackward(rows, slots([0], [1]), device().tensor([[1], [1e-30]]), given);
    const [first, second] = dRows.toArraySync() as [number[], number[]];
    expect(first).toEqual([nan, 1]);
    expect(second[0]).toBeCloseTo(1, 6);
    expect(dWeights.toArraySync()).toEqual([[nan], [Number.POSITIVE_INFINITY]]);
  });

  test("a row that is named twice has the gradient of its first slot", () => {
    const rows = device().tensor([[1, 1]]);
    const { dRows, dWeights } = combineBackward(rows, slots([0], [0]), device().tensor([[2], [3]]), dy());
    expect(dRows.toArraySync()).toEqual([[2, 4]]);
    expect(dWeights.toArraySync()).toEqual([[3], [7]]);
  });

  test("an index out of range is reported, and counts as -1", async () => {
    const { dRows, dWeights } = combineBackward(floats(2, 2), slots([0, 2], [-2, 1]), floats(2, 2), dy());
    const message = /^combineBackward: rowOfSlot\[0, 1\]: expected -1 or a row from 0 to 1, got 2$/;
    await expectRejection(dWeights.data(), "ID_OUT_OF_RANGE", message);
    expect(await dWeights.data()).toEqual(new Float32Array(4));
    expect(await dRows.data()).toEqual(new Float32Array(4));
  });

  test("bad arguments", () => {
    const call =
      (options: object, rows: ReturnType<typeof floats> | null = floats(4, 2), weights = floats(2, 2)) =>
      () =>
        combineBackward(rows as ReturnType<typeof floats>, slots([0, 1], [2, 3]), weights, dy(), options);
    expectError(call({}, floats(4, 3)), "SHAPE_MISMATCH", /^rows: expected shape \[R, 2\], got \[4, 3\]/);
    expectError(call({}, null), "INVALID_ARGUMENT", /^rows: expected a Tensor, got null/);
    expectError(call({ want: "dWeights" }, null), "INVALID_ARGUMENT", /^rows: expected a Tensor, got null/);
    expectError(call({}, floats(4, 2), floats(2, 3)), "SHAPE_MISMATCH", /^weights: expected shape \[2, 2\]/);
    expectError(call({ want: "dX" }), "INVALID_ARGUMENT", /^want: expected one of/);
    const out = { dRows: floats(4, 2), dWeights: floats(2, 2) };
    expectError(call({ want: "dWeights", out }), "INVALID_ARGUMENT", /^out\.dRows requires want: "dRows" or both/);
    expectError(call({ want: "dRows", out }), "INVALID_ARGUMENT", /^out\.dWeights requires want: "dWeights" or both/);
    expectError(call({ out: { dRows: out.dRows } }), "INVALID_ARGUMENT", /^out\.dWeights: expected a Tensor/);
    const short = { ...out, dRows: floats(3, 2) };
    expectError(call({ out: short }), "SHAPE_MISMATCH", /^out\.dRows: expected shape \[4, 2\]/);
    const rows = floats(4, 2);
    const inPlace = call({ out: { ...out, dRows: rows } }, rows);
    expectError(inPlace, "INVALID_ARGUMENT", /^out\.dRows: expected memory of its own/);
    const gather = () => permuteBackward(floats(4, 2), floats(2, 2) as never);
    expectError(gather, "UNSUPPORTED_DTYPE", /^rowOfSlot: expected dtype i32/);
  });
});

describe.each(deviceNames.filter((name) => name === "cpu"))("on %s", (name) => {
  const one = openForTests(name, { threads: 1 });
  const many = openForTests(name, { threads: 7 });

  test("the number of threads does not change a bit", () => {
    const random = new Random(4);
    const [rows, weights, dy] = [random.normals(600 * 700), random.normals(600), random.normals(150 * 700)];
    const rowOfSlot = Int32Array.from(random.sample(600, 600));
    const bits = [one(), many()].map((device) => {
      const { dRows, dWeights } = combineBackward(
        device.tensor(rows, [600, 700]),
        device.tensor(rowOfSlot, [150, 4]),
        device.tensor(weights, [150, 4]),
        device.tensor(dy, [150, 700]),
      );
      return [dRows.dataSync(), dWeights.dataSync()];
    });
    expect(bits[0]).toEqual(bits[1]);
  });
});
