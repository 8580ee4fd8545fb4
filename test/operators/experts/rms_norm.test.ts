import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { combine, openDevice, rmsNorm, rmsNormBackward, type Tensor } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { dot, gradientError } from "../../support/central_differences.js";
import { deviceNames, kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { float64, normals, valuesOf } from "../../support/float64.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
const reference = openDevice("reference", { poison: true });

test("in float64, rmsNormBackward is the derivative of rmsNorm and of what comes past it", () => {
  const problems = fc.record({
    tokens: fc.integer({ min: 1, max: 4 }),
    hidden: fc.integer({ min: 1, max: 5 }),
    epsilon: fc.constantFrom(1e-6, 0.5),
    offset: fc.constantFrom(0, 1),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(problems, ({ tokens, hidden, seed, ...numbers }) => {
      const random = new Random(seed);
      // Away from zero, where the derivative is as large as 1 / √epsilon.
      const x = normals(random, tokens * hidden).map((value) => value + Math.sign(value));
      const [weight, dy] = [normals(random, hidden), normals(random, tokens * hidden)];
      const tensorOf = (values: Float64Array) => float64(reference, values, [tokens, hidden]);
      const scale = float64(reference, weight, [hidden]);
      const loss = (a: Float64Array, b: Float64Array) =>
        dot(valuesOf(rmsNorm(tensorOf(a), float64(reference, b, [hidden]), numbers)), dy);
      const { dx, dWeight } = rmsNormBackward(tensorOf(x), scale, tensorOf(dy), numbers);
      expect(gradientError(valuesOf(dx), x, (values) => loss(values, weight))).toBeLessThanOrEqual(1e-7);
      expect(gradientError(valuesOf(dWeight), weight, (values) => loss(x, values))).toBeLessThanOrEqual(1e-8);
      const past = rmsNormBackward(tensorOf(x), scale, tensorOf(dy), { ...numbers, residual: tensorOf(dy) });
      const whole = (values: Float64Array) => loss(values, weight) + dot(values, dy);
      expect(gradientError(valuesOf(past.dx), x, whole)).toBeLessThanOrEqual(1e-7);
    }),
  );
});

test("a weight's offset, an epsilon or a mean left out would show", () => {
  const x = reference.tensor([[3, 4]]);
  const weight = reference.tensor([2, 1]);
  const y = rmsNorm(x, weight, { epsilon: 0.5 }).dataSync();
  expect(y).toEqual(Float32Array.of(6 / Math.sqrt(13), 4 / Math.sqrt(13)));
  expect(rmsNorm(x, weight, { epsilon: 0.5, offset: 1 }).dataSync()[1]).toBeCloseTo((2 * 4) / Math.sqrt(13), 6);
  expect(rmsNorm(x, weight).dataSync()[0]).toBeCloseTo(6 / Math.sqrt(12.5), 5);
});

describe.each(kernelPaths)("on $label", (path) => {
  const device = openForTests(path);
  const drawn = (shape: number[], seed: string, dtype: "f32" | "f16" | "bf16" = "f32") =>
    device().tensor(new Random(seed).normals(shape.reduce((a, b) => a * b, 1)), shape, dtype);

  test("a row has the same bits alone and among others, forward and backward", async () => {
    const [tokens, hidden] = [37, 333];
    for (const dtype of ["f32", "bf16"] as const) {
      const [x, dy] = [drawn([tokens, hidden], "x", dtype), drawn([tokens, hidden], "dy", dtype)];
      const weight = drawn([hidden], "weight");
      const all = [rmsNorm(x, weight), rmsNormBackward(x, weight, dy, { want: "dx", residual: dy }).dx];
      const whole = await Promise.all(all.map((tensor) => tensor.raw()));
      for (const row of [0, 17, 36]) {
        const [own, gradient] = [x.rows(row, row + 1), dy.rows(row, row + 1)];
        const alone = [
          rmsNorm(own, weight),
          rmsNormBackward(own, weight, gradient, { want: "dx", residual: gradient }).dx,
        ];
        const bits = await Promise.all(alone.map((tensor) => tensor.raw()));
        expect(bits).toEqual(whole.map((values) => values.slice(row * hidden, (row + 1) * hidden)));
      }
    }
  });

  test("rows of zeros stay zeros, and NaN and infinity stay in their rows", async () => {
    const x = device().tensor([
      [0, 0, 0],
      [1, nan, 1],
      [infinity, 1, -1],
      [1, -1, 1],
      [1e20, 1, 1],
    ]);
    const y = (await rmsNorm(x, device().tensor([1, 2, 3])).toArray()) as number[][];
    expect(y[0]).toEqual([0, 0, 0]);
    expect(y[1]).toEqual([nan, nan, nan]);
    expect(y[2]).toEqual([nan, 0, -0]);
    y[3]?.forEach((value, i) => {
      expect(value).toBeCloseTo([1, -2, 3][i] as number, 5);
    });
    if (device().kind !== "reference") expect(y[4]).toEqual([0, 0, 0]);
  });

  test("a residual is added last, to the bits of the sum", async () => {
    const rows = drawn([20, 77], "rows", "bf16");
    const rowOfSlot = device().tensor(
      Int32Array.from({ length: 18 }, (_, i) => ((i * 7) % 21) - 1),
      [9, 2],
    );
    const [weights, residual] = [drawn([9, 2], "weights") as Tensor<"f32">, drawn([9, 77], "residual")];
    const out = device().empty([9, 77], "f32");
    const sum = await combine(rows, rowOfSlot, weights, { out }).data();
    const added = await residual.data();
    const expected = sum.map((value, i) => value + (added[i] as number));
    const y = await combine(rows, rowOfSlot, weights, { residual, out }).data();
    // `reference` rounds once, from float64.
    if (device().kind === "reference") expect(relativeError(y, expected)).toBeLessThanOrEqual(2 ** -23);
    else expect(y).toEqual(expected);
  });
});

describe.each(deviceNames)("bad arguments on %s", (name) => {
  const device = openForTests(name);
  const floats = (...shape: number[]): Tensor<"f32"> => device().zeros(shape, "f32");

  test("are refused by name", () => {
    // biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
    const call = (options: any, x: any = floats(2, 3), weight: any = floats(3)) => rmsNorm(x, weight, options);
    const epsilon = /^epsilon: expected a number from 1e-30 to 1, got/;
    for (const value of [0, -1, 2, nan, "1e-6", null])
      expectError(() => call({ epsilon: value }), "INVALID_ARGUMENT", epsilon);
    expectError(() => call({ offset: infinity }), "INVALID_ARGUMENT", /^offset: expected a finite number/);
    expectError(() => call({}, floats(3)), "SHAPE_MISMATCH", /^x: expected shape \[T, H\]/);
    expectError(() => call({}, floats(2, 3), floats(4)), "SHAPE_MISMATCH", /^weight: expected shape \[3\]/);
    expectError(() => call({}, floats(2, 3), [1, 2, 3]), "INVALID_ARGUMENT", /^weight: expected a Tensor/);
    expectError(
      () => call({}, device().zeros([2, 3], "i32")),
      "UNSUPPORTED_DTYPE",
      /^x: expected dtype f32, f16 or bf16/,
    );
    const x = floats(2, 3);
    expectError(() => call({ out: x }, x), "INVALID_ARGUMENT", /^out: expected memory of its own/);
    const [dy, weight] = [floats(2, 3), floats(3)];
    const residual = floats(3, 2);
    expectError(
      () => rmsNormBackward(x, weight, dy, { residual }),
      "SHAPE_MISMATCH",
      /^residual: expected shape \[2, 3\]/,
    );
    const out = { dWeight: floats(3) };
    expectError(() => rmsNormBackward(x, weight, dy, { out }), "INVALID_ARGUMENT", /^out\.dx: expected a Tensor/);
    const slots = device().zeros([2, 1], "i32");
    expectError(
      () => combine(x, slots, floats(2, 1), { residual }),
      "SHAPE_MISMATCH",
      /^residual: expected shape \[2, 3\]/,
    );
    const sum = floats(2, 3);
    const over = () => combine(x, slots, floats(2, 1), { residual: sum, out: sum });
    expectError(over, "INVALID_ARGUMENT", /^out: expected memory of its own/);
  });
});
