import { inspect } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type DType, dtypes, fromBF16, fromF16 } from "../../lib/core/tensors/dtype.js";
import type { TensorSource } from "../../lib/core/tensors/tensor_source.js";
import { round } from "../../lib/testing/rounding.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";

describe.each(deviceNames)("tensors on %s", (name) => {
  const device = openForTests(name);

  describe("write()", () => {
    test.each(["f32", "f16", "bf16"] as const)("and tensor() keep the values of the call, of large %s too", (dtype) => {
      // Several pieces of the conversion, and a part.
      const values = Float32Array.from({ length: 200_003 }, (_, index) => ((index * 31) % 509) - 254);
      const [source, negated] = [values.slice(), values.map((value) => -value)];
      using tensor = device().tensor(source, undefined, dtype);
      source.fill(99);
      expect(tensor.dataSync()).toEqual(values);
      const written = negated.slice();
      tensor.write(written);
      written.fill(99);
      expect(tensor.dataSync()).toEqual(negated);
    });

    test.each(["f32", "f16", "bf16"] as const)("replaces the values of %s", (dtype) => {
      using tensor = device().zeros([2, 2], dtype);
      tensor.write([
        [1, 2],
        [3, 4],
      ]);
      expect([...tensor.dataSync()]).toEqual([1, 2, 3, 4]);
      using row = tensor.rows(1, 2);
      row.write(Float32Array.of(5.3, 6));
      expect([...tensor.dataSync()]).toEqual([1, 2, ...round(Float32Array.of(5.3, 6), dtype)]);
    });

    test("takes a copy, in order with the work around it", async () => {
      const values = new Int32Array(5);
      using tensor = device().tensor(values);
      const read = Array.from({ length: 5 }, (_, round) => {
        tensor.write(values.fill(round));
        return tensor.data();
      });
      values.fill(-1);
      expect(await Promise.all(read)).toEqual([0, 1, 2, 3, 4].map((round) => new Int32Array(5).fill(round)));
    });

    test("wrong arguments", () => {
      using tensor = device().zeros([2, 2], "i32");
      expectError(() => tensor.write([1, 2, 3]), "SHAPE_MISMATCH", /data: expected 4 values for shape \[2, 2\], got 3/);
      expectError(() => tensor.write([1, 2, 3, 0.5]), "INVALID_ARGUMENT", /data\[3\]: .* fits i32, got 0\.5/);
      expectError(() => tensor.write(Uint16Array.of(1, 2, 3, 4)), "UNSUPPORTED_DTYPE", /dtype/);
      tensor.dispose();
      expectError(() => tensor.write([1, 2, 3, 4]), "DISPOSED", /used after dispose/);
    });
  });

  describe("from and to typed arrays", () => {
    const floats = fc.float32Array({ maxLength: 40, noNaN: true });

    test.each(["f32", "f16", "bf16"] as const)(
      "%s holds Float32Array values rounded to nearest even",
      async (dtype) => {
        await fc.assert(
          fc.asyncProperty(floats, async (values) => {
            using tensor = device().tensor(values, [values.length], dtype);
            const expected = Float32Array.from(round(values, dtype));
            expect(tensor.dataSync()).toEqual(expected);
            expect(await tensor.data()).toEqual(expected);
          }),
        );
      },
    );

    test.each(["f16", "bf16"] as const)("%s keeps raw bits of every kind", (dtype) => {
      const bits = Uint16Array.from({ length: 0x10000 }, (_, index) => index);
      using tensor = device().tensor(bits, [0x10000], dtype);
      expect(tensor.rawSync()).toEqual(bits);
      const values = tensor.dataSync();
      const expected = Float32Array.from(bits, dtype === "f16" ? fromF16 : fromBF16);
      expect(values).toEqual(expected);
    });

    test.each(["f16", "bf16"] as const)(
      "%s: conversion of every bit pattern back and forth changes nothing",
      (dtype) => {
        const bits = Uint16Array.from({ length: 0x10000 }, (_, index) => index);
        using tensor = device().tensor(bits, [0x10000], dtype);
        using again = device().tensor(tensor.dataSync(), [0x10000], dtype);
        const infinity = dtype === "f16" ? 0x7c00 : 0x7f80;
        const finite = (_: number, pattern: number) => (pattern & 0x7fff) <= infinity;
        expect(again.rawSync().filter(finite)).toEqual(bits.filter(finite));
        expect(again.dataSync().filter((value) => Number.isNaN(value)).length).toBe(2 * (0x7fff - infinity));
      },
    );

    test.each([
      [Int32Array.of(-(2 ** 31), -1, 0, 2 ** 31 - 1), "i32"],
      [Uint8Array.of(0, 1, 255), "u8"],
      [Float32Array.of(0.1, -0, Number.POSITIVE_INFINITY), "f32"],
    ] as const)("%o becomes %s by default and comes back", async (values, dtype) => {
      using tensor = device().tensor(values as TensorSource);
      expect(tensor.dtype).toBe(dtype);
      expect(tensor.shape).toEqual([values.length]);
      expect(tensor.dataSync()).toEqual(values);
      expect(tensor.rawSync()).toEqual(values);
      expect(await tensor.raw()).toEqual(values);
    });

    test("Float64Array becomes f32 unless another dtype is asked for", () => {
      using tensor = device().tensor(Float64Array.of(0.1, 1e300));
      expect(tensor.dataSync()).toEqual(Float32Array.of(0.1, Number.POSITIVE_INFINITY));
    });

    test("a copy is made: later changes on one side do not affect the other", () => {
      const source = Float32Array.of(1, 2);
      using tensor = device().tensor(source);
      source[0] = 9;
      const data = tensor.dataSync();
      data[1] = 9;
      expect([...tensor.dataSync()]).toEqual([1, 2]);
    });

    test("arrays at any byte offset, and over shared memory", () => {
      for (const buffer of [new ArrayBuffer(64), new SharedArrayBuffer(64)]) {
        const bytes = new Uint8Array(buffer).map((_, index) => index + 1);
        new Uint8Array(buffer).set(bytes);
        using u8 = device().tensor(new Uint8Array(buffer, 3, 7));
        expect([...u8.dataSync()]).toEqual([4, 5, 6, 7, 8, 9, 10]);
        using f32 = device().tensor(new Float32Array(buffer, 4, 3));
        expect([...f32.dataSync()]).toEqual([...new Float32Array(buffer, 4, 3)]);
        using bf16 = device().tensor(new Uint16Array(buffer, 2, 5), [5], "bf16");
        expect([...bf16.rawSync()]).toEqual([...new Uint16Array(buffer, 2, 5)]);
      }
    });

    test("Buffers from Node's pool", () => {
      using tensor = device().tensor(Buffer.from("kernels"));
      expect(Buffer.from(tensor.dataSync()).toString()).toBe("kernels");
    });
  });

  describe("from and to nested arrays", () => {
    test("of one to four dimensions", async () => {
      for (const nested of [[1, 2], [[1, 2, 3]], [[[1], [2]]], [[[[1, 2]], [[3, 4]]]]]) {
        using tensor = device().tensor(nested);
        expect(tensor.toArraySync()).toEqual(nested);
        expect(await tensor.toArray()).toEqual(nested);
      }
    });

    test("a number is a scalar", () => {
      using tensor = device().tensor(2.5);
      expect(tensor).toMatchObject({ shape: [], rank: 0, size: 1, dtype: "f32", byteLength: 4 });
      expect(tensor.toArraySync()).toBe(2.5);
    });

    test("of every dtype", () => {
      for (const dtype of ["f32", "f16", "bf16", "i32", "u8"] as const) {
        using tensor = device().tensor(
          [
            [1, 2],
            [3, 250],
          ],
          undefined,
          dtype,
        );
        expect(tensor.dtype).toBe(dtype);
        expect(tensor.toArraySync()).toEqual([
          [1, 2],
          [3, 250],
        ]);
      }
    });

    test("of size -0, which is 0", () => {
      using tensor = device().empty([-0, 2], "f32");
      expect(Object.is(tensor.shape[0], 0)).toBe(true);
    });

    test("without elements", () => {
      using tensor = device().tensor([[], []]);
      expect(tensor.shape).toEqual([2, 0]);
      expect(tensor.toArraySync()).toEqual([[], []]);
      expect(tensor.dataSync()).toEqual(new Float32Array());
    });
  });

  describe("views", () => {
    test("reshape shares the memory", () => {
      using tensor = device().tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]);
      using view = tensor.reshape([3, 2]);
      expect(view.toArraySync()).toEqual([
        [1, 2],
        [3, 4],
        [5, 6],
      ]);
      expectError(
        () => tensor.reshape([4, 2]),
        "SHAPE_MISMATCH",
        /reshape: expected .* 6 elements like \[2, 3\], got \[4, 2\]/,
      );
    });

    test("rows of every dtype, of views too", () => {
      for (const dtype of ["f32", "f16", "bf16", "i32", "u8"] as const) {
        using tensor = device().tensor(
          [
            [1, 2],
            [3, 4],
            [5, 6],
            [7, 8],
          ],
          undefined,
          dtype,
        );
        using rows = tensor.rows(1, 4);
        using inner = rows.rows(1, 2);
        expect(rows.toArraySync()).toEqual([
          [3, 4],
          [5, 6],
          [7, 8],
        ]);
        expect(inner.toArraySync()).toEqual([[5, 6]]);
        using none = tensor.rows(4, 4);
        expect(none.shape).toEqual([0, 2]);
        expect(none.toArraySync()).toEqual([]);
      }
    });

    test("rows outside the tensor are an error that names them", () => {
      using tensor = device().tensor([1, 2, 3]);
      expectError(() => tensor.rows(-1, 2), "INVALID_ARGUMENT", /begin: expected an integer from 0 to 3, got -1/);
      expectError(() => tensor.rows(2, 1), "INVALID_ARGUMENT", /end: expected an integer from 2 to 3, got 1/);
      expectError(() => tensor.rows(0, 4), "INVALID_ARGUMENT", /end: .*got 4/);
      expectError(() => device().tensor(1).rows(0, 0), "SHAPE_MISMATCH", /at least one dimension, got a scalar/);
    });

    test("a view outlives its tensor", () => {
      const tensor = device().tensor([1, 2, 3, 4]);
      using view = tensor.rows(2, 4);
      tensor.dispose();
      expect([...view.dataSync()]).toEqual([3, 4]);
    });
  });

  describe("life", () => {
    test("use after dispose() is an error; dispose() again is not", async () => {
      const tensor = device().tensor([1, 2]);
      expect(tensor.disposed).toBe(false);
      tensor.dispose();
      tensor.dispose();
      expect(tensor.disposed).toBe(true);
      expectError(() => tensor.dataSync(), "DISPOSED", /tensor \[2\]: used after dispose/);
      expectError(() => tensor.rows(0, 1), "DISPOSED", /used after dispose/);
      expectError(() => tensor.reshape([2, 1]), "DISPOSED", /used after dispose/);
      await expectRejection(tensor.data(), "DISPOSED", /used after dispose/);
      expect(inspect(tensor)).toMatch(/Tensor<f32> \[2\] on [\w:]+ \(disposed\)/);
    });

    test("`using` disposes at the end of the block", () => {
      let seen: { disposed: boolean };
      {
        using tensor = device().tensor(1);
        seen = tensor;
        expect(seen.disposed).toBe(false);
      }
      expect(seen.disposed).toBe(true);
    });

    test("fresh memory of a poisoned device is NaN", () => {
      for (const dtype of ["f32", "f16", "bf16"] as const) {
        using tensor = device().empty([5], dtype);
        expect(tensor.dataSync().every((value) => Number.isNaN(value))).toBe(true);
      }
    });

    test("zeros", () => {
      for (const dtype of ["f32", "f16", "bf16", "i32", "u8"] as const) {
        using tensor = device().zeros([2, 2], dtype);
        expect(tensor.toArraySync()).toEqual([
          [0, 0],
          [0, 0],
        ]);
        expect(tensor.byteLength).toBe(4 * dtypes[dtype].bytes);
      }
    });

    test("running out of memory is an error, and the device remains usable", () => {
      expectError(() => device().empty([2 ** 26, 2 ** 24], "f32"), "OUT_OF_MEMORY", /\d+ bytes/);
      expectError(() => device().zeros([2 ** 25, 2 ** 27], "u8"), "OUT_OF_MEMORY", /\d+/);
      using tensor = device().tensor([1]);
      expect([...tensor.dataSync()]).toEqual([1]);
    });
  });

  test("util.inspect shows dtype, shape, device and values, but not of large tensors", () => {
    using tensor = device().tensor(
      [
        [1, 2.5],
        [3, 4],
      ],
      undefined,
      "bf16",
    );
    // A GPU's memory cannot be read without waiting for the GPU.
    const values = device().kind === "cuda" ? "" : " [ [ 1, 2.5 ], [ 3, 4 ] ]";
    expect(inspect(tensor)).toBe(`Tensor<bf16> [2, 2] on ${device().name}${values}`);
    using large = device().zeros([300, 300], "u8");
    expect(inspect(large)).toBe(`Tensor<u8> [300, 300] on ${device().name}`);
  });

  describe("bad sources", () => {
    const tensor = (source: unknown, shape?: unknown, dtype?: unknown) =>
      device().tensor(source as TensorSource, shape as number[], dtype as DType);

    test("shapes that do not fit the data", () => {
      expectError(
        () => tensor([1, 2, 3], [2, 2]),
        "SHAPE_MISMATCH",
        /data: expected 4 values for shape \[2, 2\], got 3/,
      );
      expectError(() => tensor([1], [1, -1]), "INVALID_ARGUMENT", /shape: expected at most 4 integers >= 0, got/);
      expectError(() => tensor([1], [1.5]), "INVALID_ARGUMENT", /shape: /);
      expectError(() => tensor([1], [1, 1, 1, 1, 1]), "INVALID_ARGUMENT", /shape: expected at most 4/);
      expectError(() => tensor([1], "1"), "INVALID_ARGUMENT", /shape: .*got "1"/);
      expectError(() => tensor([[[[[1]]]]]), "INVALID_ARGUMENT", /data: expected at most 4/);
      expectError(
        () => device().empty([2 ** 30, 2 ** 30], "u8"),
        "INVALID_ARGUMENT",
        /shape: expected fewer than 2\^53/,
      );
    });

    test("uneven nesting and values that are not numbers", () => {
      expectError(() => tensor([[1, 2], [3]]), "INVALID_ARGUMENT", /nested evenly as \[2, 2\], got array of length 1/);
      expectError(() => tensor([[1], 2]), "INVALID_ARGUMENT", /nested evenly/);
      expectError(() => tensor([1, [2]]), "INVALID_ARGUMENT", /data: expected .*numbers, got array/);
      for (const value of ["1", null, undefined, 1n, {}, [true]]) {
        expectError(() => tensor(value), "INVALID_ARGUMENT", /data: expected a typed array, a number or nested/);
      }
    });

    test("unknown and unsupported dtypes", () => {
      expectError(() => tensor([1], [1], "f8"), "INVALID_ARGUMENT", /dtype: expected one of .*got "f8"/);
      expectError(() => tensor(Uint16Array.of(1)), "INVALID_ARGUMENT", /dtype: expected "f16" or "bf16"/);
      expectError(
        () => tensor(Uint16Array.of(1), [1], "f32"),
        "UNSUPPORTED_DTYPE",
        /expected "f16" or "bf16" for a Uint16Array/,
      );
      expectError(
        () => tensor(BigInt64Array.of(1n)),
        "INVALID_ARGUMENT",
        /data: expected Float32Array, .*got BigInt64Array/,
      );
      expectError(() => tensor(new DataView(new ArrayBuffer(8))), "INVALID_ARGUMENT", /got DataView/);
    });

    test("integers that do not fit", () => {
      expectError(
        () => tensor([1, 300], [2], "u8"),
        "INVALID_ARGUMENT",
        /data\[1\]: expected an integer that fits u8, got 300/,
      );
      expectError(() => tensor([0.5], [1], "i32"), "INVALID_ARGUMENT", /data\[0\]: .*fits i32, got 0\.5/);
      expectError(() => tensor([2 ** 31], [1], "i32"), "INVALID_ARGUMENT", /data\[0\]/);
      expectError(() => tensor([Number.NaN], [1], "i32"), "INVALID_ARGUMENT", /data\[0\]: .*got NaN/);
    });

    test("detached and resizable buffers", () => {
      const detached = Float32Array.of(1, 2);
      structuredClone(detached, { transfer: [detached.buffer] });
      expectError(() => tensor(detached), "INVALID_ARGUMENT", /data: .*buffer was transferred;/);
      const Resizable = ArrayBuffer as unknown as new (
        bytes: number,
        options: { maxByteLength: number },
      ) => ArrayBuffer;
      const resizable = new Float32Array(new Resizable(8, { maxByteLength: 16 }));
      expectError(() => tensor(resizable), "INVALID_ARGUMENT", /fixed length; pass a copy.*got a resizable buffer/);
      const Growable = SharedArrayBuffer as unknown as typeof Resizable;
      const growable = new Float32Array(new Growable(8, { maxByteLength: 16 }));
      expectError(() => tensor(growable), "INVALID_ARGUMENT", /fixed length/);
    });

    test("only reference has f64", () => {
      if (name === "reference") {
        using values = device().tensor(Float64Array.of(0.1), [1], "f64");
        expect(values.dataSync()).toEqual(Float64Array.of(0.1));
      } else {
        expectError(() => tensor([1], [1], "f64"), "UNSUPPORTED_DTYPE", /expected f32, f16, bf16, i32 or u8.*got f64/);
      }
    });
  });
});
