import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { groupedGemm, linear, linearBackward, openDevice, packExperts, type Tensor } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../../lib/testing/inputs/random_quantized.js";
import { dot, gradientError } from "../../support/central_differences.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const reference = openDevice("reference");

const sizes = fc.record({
  tokens: fc.integer({ min: 0, max: 70 }),
  columns: fc.integer({ min: 1, max: 60 }),
  outputs: fc.integer({ min: 1, max: 60 }),
  seed: fc.integer(),
});

describe.each(deviceNames)("linear on %s", (name) => {
  const device = openForTests(name);

  test("is x · weightᵀ + bias, packed or not, and its gradients", () => {
    fc.assert(
      fc.property(sizes, ({ tokens, columns, outputs, seed }) => {
        const random = new Random(seed);
        const draw = (...shape: number[]) =>
          device().tensor(random.normals(shape.reduce((size, n) => size * n, 1)), shape, "f32") as Tensor<"f32">;
        const [x, weight, bias, dy] = [
          draw(tokens, columns),
          draw(outputs, columns),
          draw(outputs),
          draw(tokens, outputs),
        ];
        const values = new Map([x, weight, bias, dy].map((tensor) => [tensor as Tensor, tensor.dataSync()]));
        const at = (tensor: Tensor, row: number, column: number) =>
          values.get(tensor)?.[row * (tensor.shape.at(-1) as number) + column] as number;
        const sum = (count: number, term: (i: number) => number) =>
          Array.from({ length: count }, (_, i) => term(i)).reduce((total, value) => total + value, 0);
        const matrix = (rows: number, width: number, value: (row: number, column: number) => number) =>
          Array.from({ length: rows * width }, (_, i) => value(Math.floor(i / width), i % width));
        const y = linear(x, weight, { bias });
        const expected = matrix(tokens, outputs, (t, n) => {
          return sum(columns, (k) => at(x, t, k) * at(weight, n, k)) + at(bias, 0, n);
        });
        expect(relativeError(y.dataSync(), expected, 1)).toBeLessThan(1e-5);
        const stacked = weight.reshape([1, outputs, columns]);
        expect(linear(x, packExperts(stacked), { bias }).rawSync()).toEqual(y.rawSync());

        const { dx, dWeight, dBias } = linearBackward(x, weight, dy, { bias: true });
        const ofX = matrix(tokens, columns, (t, k) => sum(outputs, (n) => at(dy, t, n) * at(weight, n, k)));
        const ofWeight = matrix(outputs, columns, (n, k) => sum(tokens, (t) => at(dy, t, n) * at(x, t, k)));
        expect(relativeError(dx.dataSync(), ofX, 1)).toBeLessThan(1e-5);
        expect(relativeError(dWeight.dataSync(), ofWeight, 1)).toBeLessThan(1e-5);
        expect(
          relativeError(
            dBias.dataSync(),
            matrix(1, outputs, (_, n) => sum(tokens, (t) => at(dy, t, n))),
            1,
          ),
        ).toBeLessThan(1e-5);
        expect([dx.shape, dWeight.shape, dBias.shape]).toEqual([x.shape, weight.shape, bias.shape]);
        const packed = packExperts(stacked, { transpose: true });
        const again = linearBackward(x, packed, dy, { bias: true, accumulate: true, out: { dx, dWeight, dBias } });
        expect(again).toEqual({ dx, dWeight, dBias });
        expect(
          relativeError(
            dWeight.dataSync(),
            ofWeight.map((value) => 2 * value),
            1,
          ),
        ).toBeLessThan(1e-5);
      }),
      { numRuns: 15 },
    );
  });

  test("has the activations of the grouped GEMM", () => {
    const random = new Random(2);
    const x = device().tensor(random.normals(5 * 9), [5, 9], "f32");
    const weight = device().tensor(random.normals(12 * 9), [12, 9], "f32");
    const y = linear(x, weight, { activation: "swiglu" });
    const pre = linear(x, weight).dataSync();
    const expected = Array.from({ length: 30 }, (_, i) => {
      const [row, column] = [Math.floor(i / 6), i % 6];
      const gate = pre[row * 12 + column] as number;
      return (gate / (1 + Math.exp(-gate))) * (pre[row * 12 + 6 + column] as number);
    });
    expect(y.shape).toEqual([5, 6]);
    expect(relativeError(y.dataSync(), expected)).toBeLessThan(1e-5);
  });

  test("takes the columns of a quantised weight from x", () => {
    const random = new Random(6);
    const [rows, columns] = [6, 33];
    const { columns: _, ...weight } = randomQuantized(device(), random, "i4_g32_bf16", [rows, columns]);
    const x = device().tensor(random.normals(5 * columns), [5, columns], "f32");
    const offsets = device().tensor(Int32Array.of(0, 5));
    expect(linear(x, weight).dataSync()).toEqual(groupedGemm(x, weight, offsets).dataSync());
    const wide = device().zeros([5, columns + 2], "f32");
    expectError(() => linear(wide, weight), "SHAPE_MISMATCH", /codes/);
  });

  test("refuses what does not go together", () => {
    const floats = (...shape: number[]) => device().zeros(shape, "f32");
    const x = floats(3, 4);
    expectError(() => linear(x, floats(5, 3)), "SHAPE_MISMATCH", /^weight: expected shape \[N, 4\], got \[5, 3\]$/);
    const wrongBias = { bias: floats(4) };
    const message = /^bias: expected shape \[5\], got \[4\]$/;
    expectError(() => linear(x, floats(5, 4), wrongBias), "SHAPE_MISMATCH", message);
    expectError(() => linear(x, packExperts(floats(1, 5, 4)), wrongBias), "SHAPE_MISMATCH", message);
    const two = packExperts(floats(2, 5, 4));
    expectError(
      () => linear(x, two),
      "INVALID_ARGUMENT",
      /weight: expected a matrix or the packed weight of one expert \(groupedGemm takes several\), got 2 experts/,
    );
    expectError(() => linearBackward(x, floats(5, 4), floats(2, 5)), "SHAPE_MISMATCH", /dy: expected shape \[3, N\]/);
    const accumulate = { accumulate: true };
    expectError(
      () => linearBackward(x, floats(5, 4), floats(3, 5), accumulate),
      "INVALID_ARGUMENT",
      /accumulate requires out/,
    );
    const one = packExperts(floats(1, 5, 4));
    expectError(() => linearBackward(x, one, floats(3, 5)), "INVALID_ARGUMENT", /weight: .*transpose: true/);
  });
});

test("the gradients of linear are its derivatives", () => {
  const random = new Random(3);
  const [x, weight, dy] = [normals(random, 4 * 5), normals(random, 3 * 5), normals(random, 4 * 3)];
  const tensor = (values: Float64Array, columns: number) =>
    float64(reference, values, [values.length / columns, columns]);
  const { dx, dWeight } = linearBackward(tensor(x, 5), tensor(weight, 5), tensor(dy, 3));
  const loss = (a: Float64Array, b: Float64Array) => dot(valuesOf(linear(tensor(a, 5), tensor(b, 5))), dy);
  expect(gradientError(valuesOf(dx), x, (moved) => loss(moved, weight))).toBeLessThan(1e-8);
  expect(gradientError(valuesOf(dWeight), weight, (moved) => loss(x, moved))).toBeLessThan(1e-8);
});
