import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { shapeSize } from "../../../lib/core/tensors/shape.js";
import { openDevice } from "../../../lib/devices.js";
import { cast } from "../../../lib/operators/formats/cast.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

const reference = openDevice("reference");
afterAll(() => reference.dispose());

const dtypes = ["f32", "f16", "bf16"] as const;

describe.each(kernelPaths)("cast on $label", (path) => {
  const device = openForTests(path);

  test("gives the bits that a tensor of the other dtype is made with", () => {
    const numbers = fc.oneof(
      fc.float(),
      fc.double({ min: -70000, max: 70000 }),
      fc.constantFrom(0, -0, 1 + 2 ** -8, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 ** -25, 65519, 65520, 2 ** -149),
    );
    const shape = fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 4 });
    const problem = { shape, numbers: fc.array(numbers, { minLength: 1 }), from: fc.constantFrom(...dtypes) };
    fc.assert(
      fc.property(fc.record(problem), fc.constantFrom(...dtypes), ({ shape, numbers, from }, to) => {
        const size = shapeSize(shape);
        const values = Float32Array.from({ length: size }, (_, index) => numbers[index % numbers.length] as number);
        using x = device().tensor(values, shape, from);
        using y = cast(x, { dtype: to });
        using expected = device().tensor(x.dataSync(), shape, to);
        expect([y.dtype, y.shape]).toEqual([to, shape]);
        expect(y.dataSync()).toEqual(expected.dataSync());
        expect(x.dataSync()).toEqual(device().tensor(values, shape, from).dataSync());
      }),
      { numRuns: 80 },
    );
  });

  test("takes the dtype of `out`, and leaves what is around it", () => {
    using x = device().tensor([1.5, -2, 3, 4], [2, 2], "bf16");
    using memory = device().tensor(new Float32Array(12).fill(7), [6, 2]);
    using out = memory.rows(2, 4);
    expect(cast(x, { out })).toBe(out);
    expect([...memory.dataSync()]).toEqual([7, 7, 7, 7, 1.5, -2, 3, 4, 7, 7, 7, 7]);
  });

  test("keeps the bits of x if the dtype is the same; NaN stays NaN", () => {
    for (const [dtype, infinity] of [
      ["f16", 0x7c00],
      ["bf16", 0x7f80],
    ] as const) {
      using x = device().tensor(
        new Uint16Array([0x0001, 0x8000, infinity, infinity + 1, 0x8000 + infinity]),
        [5],
        dtype,
      );
      using copy = cast(x, { dtype });
      expect([...copy.dataSync()]).toEqual([...x.dataSync()]);
      expect([...copy.dataSync()][3]).toBeNaN();
    }
  });

  test("refuses what it cannot do", () => {
    using x = device().tensor([1, 2, 3, 4], [2, 2]);
    using ids = device().tensor([1], [1], "i32");
    // @ts-expect-error: not a float
    expectError(() => cast(ids, { dtype: "f32" }), "UNSUPPORTED_DTYPE", /x: expected dtype f32, f16 or bf16, got i32/);
    expectError(() => cast(x, {}), "INVALID_ARGUMENT", /options\.dtype: expected a dtype such as "bf16", or `out`/);
    // @ts-expect-error: not a dtype of floats
    expectError(() => cast(x, { dtype: "u8" }), "UNSUPPORTED_DTYPE", /dtype: expected f32, f16 or bf16, got u8/);
    expectError(() => cast(x, { dtype: "f32", out: x }), "INVALID_ARGUMENT", /out: expected memory of its own/);
    using wide = device().empty([2, 3], "bf16");
    expectError(() => cast(x, { out: wide }), "SHAPE_MISMATCH", /out: expected shape \[2, 2\], got \[2, 3\]/);
    using half = device().empty([2, 2], "f16");
    expectError(() => cast(x, { dtype: "bf16" as "f16", out: half }), "UNSUPPORTED_DTYPE", /out/);
    using elsewhere = reference.empty([2, 2], "f16");
    if (path.label !== "reference") expectError(() => cast(x, { out: elsewhere }), "DEVICE_MISMATCH", /out/);
  });
});

test("cast rounds f64, which only reference has", () => {
  using x = reference.tensor(new Float64Array([1 + 2 ** -30, 1e300]), [2], "f64");
  expect(x.dtype).toBe("f64");
  using y = cast(x, { dtype: "f32" });
  expect([...y.dataSync()]).toEqual([1, Number.POSITIVE_INFINITY]);
});
