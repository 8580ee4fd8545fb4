import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import type { FloatDType } from "../../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { groupedGemmBackward } from "../../../lib/operators/experts/grouped_gemm_backward.js";
import { groupedGemmWeightBackward } from "../../../lib/operators/experts/grouped_gemm_weight_backward.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { centralDifferences, dot, gradientError } from "../../support/central_differences.js";
import { deviceNames, kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const reference = openDevice("reference", { poison: true });
const tolerance = 1e-8;

/** Rows of each expert, rows behind the last one's, and the tokens to gather from; some rows have none. */
const rowsOf = fc.record({
  counts: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 4 }),
  behind: fc.integer({ min: 0, max: 2 }),
  tokens: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
});

const sizes = fc.record({
  rows: rowsOf,
  columns: fc.integer({ min: 1, max: 4 }),
  outputs: fc.integer({ min: 1, max: 4 }),
  seed: fc.nat(),
});

type Product = typeof sizes extends fc.Arbitrary<infer T> ? T : never;

/** A product in float64, and its loss Σ y · dy by x, weight and bias. */
function float64Product({ rows: { counts, behind, tokens }, columns, outputs, seed }: Product) {
  const random = new Random(seed);
  const experts = counts.length;
  const total = counts.reduce((a, b) => a + b, behind);
  const values = {
    x: normals(random, (tokens ?? total) * columns),
    weight: normals(random, experts * outputs * columns),
    bias: normals(random, experts * outputs),
  };
  const dy = normals(random, total * outputs);
  const offsets = reference.tensor(offsetsOf(counts));
  const indices = Int32Array.from({ length: total }, () => random.integer(-1, (tokens ?? 0) - 1));
  const tokenOfRow = tokens === undefined ? {} : { tokenOfRow: reference.tensor(indices) };
  const tensors = (at: typeof values) => ({
    x: float64(reference, at.x, [tokens ?? total, columns]),
    weight: float64(reference, at.weight, [experts, outputs, columns]),
    bias: float64(reference, at.bias, [experts, outputs]),
  });
  const loss = (changed: Partial<typeof values>) => {
    const { x, weight, bias } = tensors({ ...values, ...changed });
    return dot(valuesOf(groupedGemm(x, weight, offsets, { bias, ...tokenOfRow })), dy);
  };
  const indexOf = (row: number) => (tokens === undefined ? row : (indices[row] as number));
  return {
    values,
    loss,
    given: [tensors(values), offsets, float64(reference, dy, [total, outputs]), tokenOfRow] as const,
    indexOf,
    total,
  };
}

function offsetsOf(counts: readonly number[]): Int32Array {
  const offsets = new Int32Array(counts.length + 1);
  counts.forEach((count, expert) => {
    offsets[expert + 1] = (offsets[expert] as number) + count;
  });
  return offsets;
}

describe("in float64", () => {
  test("groupedGemmBackward is the derivative of the product by x, weights and biases", () => {
    fc.assert(
      fc.property(sizes, (problem) => {
        const { values, loss, given, indexOf, total } = float64Product(problem);
        const [{ x, weight }, offsets, dy, tokenOfRow] = given;
        const gradients = groupedGemmBackward(x, weight, offsets, dy, { bias: true, ...tokenOfRow });
        expect(
          gradientError(valuesOf(gradients.dWeight), values.weight, (moved) => loss({ weight: moved })),
        ).toBeLessThanOrEqual(tolerance);
        expect(
          gradientError(valuesOf(gradients.dBias), values.bias, (moved) => loss({ bias: moved })),
        ).toBeLessThanOrEqual(tolerance);
        // A token's gradient is the sum of its rows'.
        const rows = valuesOf(gradients.dx);
        const dx = new Float64Array(values.x.length);
        for (let row = 0; row < total; row++) {
          for (let k = 0; k < problem.columns && indexOf(row) >= 0; k++) {
            const at = indexOf(row) * problem.columns + k;
            dx[at] = (dx[at] as number) + (rows[row * problem.columns + k] as number);
          }
        }
        expect(gradientError(dx, values.x, (moved) => loss({ x: moved }))).toBeLessThanOrEqual(tolerance);
      }),
    );
  });

  test("mistakes show: another expert's rows, x and dy exchanged, a bias that counts rows without a token", () => {
    const problem = { rows: { counts: [2, 3], behind: 0, tokens: 3 }, columns: 3, outputs: 3, seed: 1 };
    const { values, loss, given } = float64Product(problem);
    const [{ x }, offsets, dy, { tokenOfRow }] = given;
    expect(valuesOf(tokenOfRow as Tensor)).toContain(-1);
    const exact = {
      dWeight: centralDifferences(values.weight, (weight) => loss({ weight })),
      dBias: centralDifferences(values.bias, (bias) => loss({ bias })),
    };
    const errors = (
      ...[from, by, at, tokens = tokenOfRow]: [Tensor<"f32">, Tensor<"f32">, Tensor<"i32">, Tensor<"i32">?]
    ) => {
      const options = { bias: true, ...(tokens && { tokenOfRow: tokens }) } as const;
      const { dWeight, dBias } = groupedGemmWeightBackward(from, by, at, options);
      return [relativeError(valuesOf(dWeight), exact.dWeight, 1), relativeError(valuesOf(dBias), exact.dBias, 1)];
    };
    for (const error of errors(x, dy, offsets)) expect(error).toBeLessThanOrEqual(tolerance);
    const shifted = reference.tensor(Int32Array.of(0, 1, 5));
    for (const error of errors(x, dy, shifted)) expect(error).toBeGreaterThan(0.1);
    const gathered = float64(reference, rowsOfTokens(x, tokenOfRow as Tensor), [5, 3]);
    const identity = reference.tensor(Int32Array.from({ length: 5 }, (_, row) => row));
    expect(errors(dy, gathered, offsets, identity)[0]).toBeGreaterThan(0.1);
    const [weightError, biasError] = errors(gathered, dy, offsets, identity);
    expect(weightError).toBeLessThanOrEqual(tolerance);
    expect(biasError).toBeGreaterThan(0.1);
  });
});

/** The rows that `tokenOfRow` gathers, with zeros for -1. */
function rowsOfTokens(x: Tensor, tokenOfRow: Tensor): number[] {
  const rows = x.toArraySync() as number[][];
  const none = rows[0]?.map(() => 0) as number[];
  return [...valuesOf(tokenOfRow)].flatMap((token) => (token < 0 ? none : (rows[token] as number[])));
}

/** Normal values; the same on every device. */
function normal(device: Device, seed: string, shape: readonly number[], dtype: FloatDType = "f32"): Tensor<FloatDType> {
  return device.tensor(new Random(seed).normals(shape.reduce((a, b) => a * b, 1)), shape, dtype);
}

describe.each(kernelPaths)("groupedGemmWeightBackward on $label", (path) => {
  const device = openForTests(path);

  test("adds up the rows of each expert", () => {
    const x = device().tensor([
      [1, 2],
      [3, 4],
      [5, 6],
      [7, 8],
    ]);
    const dy = device().tensor([[1], [10], [100], [1000]]);
    const offsets = device().tensor(Int32Array.of(0, 2, 2, 3));
    const { dWeight, dBias } = groupedGemmWeightBackward(x, dy, offsets, { bias: true });
    expect(dWeight.toArraySync()).toEqual([[[31, 42]], [[0, 0]], [[500, 600]]]);
    expect(dBias.toArraySync()).toEqual([[11], [0], [100]]);
    const out = { dWeight, dBias };
    groupedGemmWeightBackward(x, dy, offsets, { bias: true, accumulate: true, out });
    expect(dWeight.toArraySync()).toEqual([[[62, 84]], [[0, 0]], [[1000, 1200]]]);
    expect(dBias.toArraySync()).toEqual([[22], [0], [200]]);
    const tokenOfRow = device().tensor(Int32Array.of(3, -1, 0, 1));
    groupedGemmWeightBackward(x, dy, offsets, { bias: true, out, tokenOfRow });
    expect(dWeight.toArraySync()).toEqual([[[7, 8]], [[0, 0]], [[100, 200]]]);
    expect(dBias.toArraySync()).toEqual([[1], [0], [100]]);
  });

  test.each(["f32", "f16", "bf16"] as const)(
    "%s: random sizes are within 1e-5 of the largest sum in float64",
    (dtype) => {
      const whole = fc.integer({ min: 15, max: 20 }).map((eights) => eights * 8);
      const size = fc.oneof(fc.integer({ min: 0, max: 70 }), whole);
      const counts = fc.array(fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 250, max: 270 })), {
        maxLength: 3,
      });
      fc.assert(
        fc.property(counts, size, size, fc.boolean(), fc.boolean(), (rows, columns, outputs, gathers, accumulate) => {
          const total = rows.reduce((a, b) => a + b, 1);
          const results = [device(), reference].map((on) => {
            const x = normal(on, "x", [total, columns], dtype);
            const dy = normal(on, "dy", [total, outputs], dtype);
            const random = new Random("tokens");
            const tokens = Int32Array.from({ length: total }, () => random.integer(-1, total - 1));
            const out = {
              dWeight: normal(on, "weight", [rows.length, outputs, columns]) as Tensor<"f32">,
              dBias: normal(on, "bias", [rows.length, outputs]) as Tensor<"f32">,
            };
            const gather = gathers ? { tokenOfRow: on.tensor(tokens) } : {};
            groupedGemmWeightBackward(x, dy, on.tensor(offsetsOf(rows)), { bias: true, accumulate, out, ...gather });
            return [out.dWeight.dataSync(), out.dBias.dataSync()] as const;
          });
          const [[weight, bias], [exactWeight, exactBias]] = results as [(typeof results)[0], (typeof results)[0]];
          expect(relativeError(weight, exactWeight, 1)).toBeLessThanOrEqual(1e-5);
          expect(relativeError(bias, exactBias, 1)).toBeLessThanOrEqual(1e-5);
        }),
        { numRuns: 25 },
      );
    },
  );

  test("NaN stays with its expert, and is not read where a row has no token", () => {
    const [x, values] = [normal(device(), "x", [6, 9]), new Random("dy").normals(6 * 5)];
    const offsets = device().tensor(Int32Array.of(0, 2, 4, 5));
    const gradients = (dy: Float32Array, tokens: readonly number[]) => {
      const tokenOfRow = device().tensor(Int32Array.from(tokens));
      const gradient = device().tensor(dy, [6, 5], "f32");
      const { dWeight, dBias } = groupedGemmWeightBackward(x, gradient, offsets, { bias: true, tokenOfRow });
      return [dWeight.toArraySync() as number[][][], dBias.toArraySync() as number[][]] as const;
    };
    const dirty = values.with(2 * 5 + 3, Number.NaN).with(5 * 5, Number.NaN);
    const [weight, bias] = gradients(values, [0, 1, 2, 3, 4, 5]);
    const [dirtyWeight, dirtyBias] = gradients(dirty, [0, 1, 2, 3, 4, 5]);
    expect(dirtyWeight[1]?.[3]).toEqual(Array(9).fill(Number.NaN));
    expect(dirtyBias[1]?.[3]).toBeNaN();
    for (const expert of [0, 2]) {
      expect(dirtyWeight[expert]).toEqual(weight[expert]);
      expect(dirtyBias[expert]).toEqual(bias[expert]);
    }
    expect(gradients(dirty, [0, 1, -1, 3, 4, 5])).toEqual(gradients(values, [0, 1, -1, 3, 4, 5]));
  });

  test("an expert's bits do not depend on the other experts", () => {
    const [columns, outputs] = [70, 41];
    for (const dtype of ["f32", "bf16"] as const) {
      const x = normal(device(), "x", [300, columns], dtype);
      const dy = normal(device(), "dy", [300, outputs], dtype);
      const all = groupedGemmWeightBackward(x, dy, device().tensor(Int32Array.of(0, 17, 17, 290, 300)));
      const one = groupedGemmWeightBackward(x.rows(17, 290), dy.rows(17, 290), device().tensor(Int32Array.of(0, 273)));
      const size = outputs * columns;
      expect(one.dWeight.dataSync()).toEqual(all.dWeight.dataSync().subarray(2 * size, 3 * size));
    }
  });

  test("where rows begin in memory changes no bit", () => {
    const [rows, columns, outputs] = [45, 136, 72];
    const offsets = device().tensor(Int32Array.of(0, 40, 45));
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const at = (name: string, width: number, first: number) => {
        const values = new Random(name).normals(rows * width);
        const memory = device().tensor([...Array(first).fill(Number.NaN), ...values], [first + rows * width, 1], dtype);
        return memory.rows(first, first + rows * width).reshape([rows, width]) as Tensor<FloatDType>;
      };
      const gradient = (first: number) =>
        groupedGemmWeightBackward(at("x", columns, first), at("dy", outputs, first), offsets).dWeight.rawSync();
      for (const first of [1, 2, 4]) expect(gradient(first)).toEqual(gradient(0));
    }
  });

  test("bad offsets and indices are reported, and their rows left out", () => {
    const [x, dy] = [normal(device(), "x", [2, 3]), normal(device(), "dy", [2, 4])];
    const out = { dWeight: device().zeros([1, 4, 3], "f32") };
    const bad = device().tensor(Int32Array.of(0, 3));
    groupedGemmWeightBackward(x, dy, bad, { out });
    expectError(
      () => device().synchronizeSync(),
      "ID_OUT_OF_RANGE",
      /^groupedGemmWeightBackward: offsets\[1\]: expected from 0 to 2, got 3/,
    );
    expect(out.dWeight.dataSync()).toEqual(new Float32Array(12));
    const tokenOfRow = device().tensor(Int32Array.of(0, 2));
    groupedGemmWeightBackward(x, dy, device().tensor(Int32Array.of(0, 2)), { out, tokenOfRow });
    expectError(
      () => device().synchronizeSync(),
      "ID_OUT_OF_RANGE",
      /^groupedGemmWeightBackward: tokenOfRow\[1\]: expected -1 or a row from 0 to 1, got 2/,
    );
    const first = groupedGemmWeightBackward(x.rows(0, 1), dy.rows(0, 1), device().tensor(Int32Array.of(0, 1)));
    expect(out.dWeight.dataSync()).toEqual(first.dWeight.dataSync());
  });

  test("bad arguments", () => {
    const floats = (...shape: number[]) => device().zeros(shape, "f32");
    const offsets = device().zeros([4], "i32");
    const call =
      (options: object, dy = floats(2, 5), at = offsets) =>
      () =>
        groupedGemmWeightBackward(floats(2, 3), dy, at, options);
    expectError(call({}, floats(3, 5)), "SHAPE_MISMATCH", /^dy: expected shape \[2, N\], got \[3, 5\]/);
    expectError(
      call({}, floats(2, 5), device().zeros([0], "i32")),
      "SHAPE_MISMATCH",
      /^offsets: expected shape \[E\+1\]/,
    );
    expectError(call({ accumulate: true }), "INVALID_ARGUMENT", /^accumulate requires out/);
    expectError(call({ bias: 1 }), "INVALID_ARGUMENT", /^bias: expected a boolean/);
    const dWeight = floats(3, 5, 3);
    expectError(
      call({ bias: true, out: { dWeight } }),
      "INVALID_ARGUMENT",
      /^out\.dBias: expected a Tensor, got undefined/,
    );
    expectError(call({ out: { dWeight, dBias: floats(3, 5) } }), "INVALID_ARGUMENT", /^out\.dBias requires bias: true/);
    expectError(
      call({ out: { dWeight: floats(3, 3, 5) } }),
      "SHAPE_MISMATCH",
      /^out\.dWeight: expected shape \[3, 5, 3\]/,
    );
    const shared = floats(3, 5, 3);
    const within = shared.reshape([15, 3]).rows(0, 5).reshape([3, 5]);
    expectError(
      call({ bias: true, out: { dWeight: shared, dBias: within } }),
      "INVALID_ARGUMENT",
      /^out\.dBias: expected memory of its own/,
    );
  });
});

describe.each(kernelPaths)("groupedGemmBackward on $label", (path) => {
  const device = openForTests(path);

  test("packed and plain weights give the same bits, and dx those of the product with the transposes", () => {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      const [x, dy] = [normal(device(), "x", [9, 70], dtype), normal(device(), "dy", [9, 35], dtype)];
      const values = new Random("weight").normals(3 * 35 * 70);
      const weight = device().tensor(values, [3, 35, 70], dtype);
      const turned = values.map((_, i) => {
        const [expert, k, n] = [Math.floor(i / (35 * 70)), Math.floor(i / 35) % 70, i % 35];
        return values[(expert * 35 + n) * 70 + k] as number;
      });
      const offsets = device().tensor(Int32Array.of(0, 4, 4, 8));
      using packed = packExperts(weight, { transpose: true });
      expect([packed.transposed, packed.shape]).toEqual([true, [3, 70, 35]]);
      const plain = groupedGemmBackward(x, weight, offsets, dy);
      const expected = groupedGemm(dy, device().tensor(turned, [3, 70, 35], dtype), offsets);
      expect(plain.dx.rawSync()).toEqual(expected.rawSync());
      expect(groupedGemmBackward(x, packed, offsets, dy).dx.rawSync()).toEqual(expected.rawSync());
      expect(plain.dWeight.rawSync()).toEqual(groupedGemmWeightBackward(x, dy, offsets).dWeight.rawSync());
    }
  });

  test("accumulates the gradients of weights, not dx", () => {
    const [x, dy] = [normal(device(), "x", [4, 6]), normal(device(), "dy", [4, 5])];
    const weight = normal(device(), "weight", [2, 5, 6]);
    const offsets = device().tensor(Int32Array.of(0, 1, 4));
    const once = groupedGemmBackward(x, weight, offsets, dy, { bias: true });
    const out = {
      dx: device().empty([4, 6], "f32"),
      dWeight: device().zeros([2, 5, 6], "f32"),
      dBias: device().zeros([2, 5], "f32"),
    };
    for (let i = 0; i < 2; i++) groupedGemmBackward(x, weight, offsets, dy, { bias: true, accumulate: true, out });
    expect(out.dx.dataSync()).toEqual(once.dx.dataSync());
    expect(
      relativeError(
        out.dWeight.dataSync(),
        once.dWeight.dataSync().map((value) => 2 * value),
      ),
    ).toBeLessThan(1e-6);
    expect(
      relativeError(
        out.dBias.dataSync(),
        once.dBias.dataSync().map((value) => 2 * value),
      ),
    ).toBeLessThan(1e-6);
  });

  test("bad arguments", () => {
    const floats = (...shape: number[]) => device().zeros(shape, "f32");
    const [x, dy, weight, offsets] = [floats(2, 3), floats(2, 4), floats(5, 4, 3), device().zeros([6], "i32")];
    const call =
      (given: typeof weight | ReturnType<typeof packExperts>, options = {}) =>
      () =>
        groupedGemmBackward(x, given, offsets, dy, options);
    expectError(call(floats(5, 3, 4)), "SHAPE_MISMATCH", /^weight: expected shape \[E, 4, 3\], got \[5, 3, 4\]/);
    expectError(call(packExperts(weight)), "INVALID_ARGUMENT", /^weight: expected packed experts with transpose: true/);
    expectError(
      call(packExperts(floats(5, 3, 4), { transpose: true })),
      "SHAPE_MISMATCH",
      /^weight: expected packed experts of shape \[E, 3, 4\], got \[5, 4, 3\]/,
    );
    expectError(
      call(weight, { out: { dx: x, dWeight: floats(5, 4, 3) } }),
      "INVALID_ARGUMENT",
      /^out\.dx: expected memory/,
    );
    expectError(
      call(weight, { out: { dx: floats(2, 3), dWeight: weight } }),
      "INVALID_ARGUMENT",
      /^out\.dWeight: expected memory/,
    );
    expectError(
      () => packExperts(weight, { transpose: true, activation: "swiglu" }),
      "INVALID_ARGUMENT",
      /^transpose cannot be combined with activation swiglu/,
    );
    expectError(
      () => groupedGemm(dy, packExperts(weight, { transpose: true }), offsets, { transpose: false }),
      "INVALID_ARGUMENT",
      /^transpose: expected true, as the weights were packed, got false/,
    );
  });
});

describe.each(deviceNames.filter((name) => name !== "reference"))("groupedGemmWeightBackward on %s", (name) => {
  const many = openForTests(name, name === "cpu" ? { threads: 2 } : {});
  const one = openForTests(name, { threads: 1 });

  test.each(["f32", "bf16"] as const)(
    "%s: the same bits on every run and with any number of threads",
    async (dtype) => {
      const [rows, columns, outputs] = [700, 40, 470];
      const results = [many(), many(), one()].map((device) =>
        groupedGemmWeightBackward(
          normal(device, "x", [rows, columns], dtype),
          normal(device, "dy", [rows, outputs], dtype),
          device.tensor(Int32Array.of(0, 3, 603, 603, 690)),
          { bias: true },
        ),
      );
      const [first, ...others] = await Promise.all(
        results.map(async ({ dWeight, dBias }) => [await dWeight.data(), await dBias.data()]),
      );
      for (const other of others) expect(other).toEqual(first);
    },
  );
});
