import fc from "fast-check";
import { afterAll, describe, expect, test, vi } from "vitest";
import { Device } from "../../../lib/core/device/device.js";
import { weightFormat } from "../../../lib/core/formats/weight_formats.js";
import { fromE4M3 } from "../../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../../lib/core/tensors/tensor.js";
import { openDevice } from "../../../lib/devices.js";
import { type PackOptions, packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { type QuantizedWeight, tensorsOf } from "../../../lib/operators/experts/quantized_weight.js";
import { dequantize, quantizationError } from "../../../lib/operators/formats/dequantize.js";
import { quantize, scaleChoices } from "../../../lib/operators/formats/quantize.js";
import { quantizableFormats } from "../../../lib/testing/cases/formats.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../../lib/testing/inputs/random_quantized.js";
import { kernelPaths, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

const reference = openDevice("reference");
afterAll(() => reference.dispose());
const bytesOf = (weight: QuantizedWeight) => tensorsOf(weight).map((tensor) => [...tensor.dataSync()]);

/** The values of codes 0 .. 2^bits - 1 of a format, by its public description. */
function codeValues(name: string): readonly number[] {
  const { code, bits, table } = weightFormat(name);
  return Array.from({ length: 2 ** bits }, (_, raw) => {
    if (table !== undefined) return table[raw] as number;
    if (code === "e4m3") return fromE4M3(raw);
    return code === "signed_integer" && raw >= 2 ** (bits - 1) ? raw - 2 ** bits : raw;
  }).filter((value) => !Number.isNaN(value));
}

describe.each(kernelPaths)("quantize on $label", (path) => {
  const device = openForTests(path);

  test("gives the bits of reference for any size, format and choice of scales", () => {
    const problem = {
      format: fc.constantFrom(...quantizableFormats),
      rows: fc.integer({ min: 1, max: 6 }),
      columns: fc.integer({ min: 1, max: 600 }),
      scale: fc.constantFrom(...scaleChoices),
      dtype: fc.constantFrom("f32", "f16", "bf16"),
      mean: fc.constantFrom(0, 0, 1, -0.2),
      seed: fc.integer(),
    } as const;
    fc.assert(
      fc.property(fc.record(problem), ({ format, rows, columns, scale, dtype, mean, seed }) => {
        const random = new Random(seed);
        const values = random.normals(rows * columns).map((value) => value + mean);
        using x = device().tensor(values, [rows, columns], dtype);
        using expectedX = reference.tensor(values, [rows, columns], dtype);
        using weight = quantize(x, format, { scale });
        using expected = quantize(expectedX, format, { scale });
        expect(bytesOf(weight)).toEqual(bytesOf(expected));
      }),
      { numRuns: 60 },
    );
  });

  test("counts what is not finite as 0, and tells", () => {
    const values = Float32Array.from({ length: 64 }, (_, index) => index / 64);
    const broken = values.slice();
    const clean = values.slice();
    for (const [index, value] of [NaN, Infinity, -Infinity].entries()) {
      broken[7 * index] = value;
      clean[7 * index] = 0;
    }
    using x = device().tensor(broken, [2, 32]);
    using zeros = device().tensor(clean, [2, 32]);
    for (const format of ["i4_g32_bf16", "q4_1", "mxfp4"]) {
      using weight = quantize(x, format);
      using expected = quantize(zeros, format);
      expect(bytesOf(weight)).toEqual(bytesOf(expected));
      using error = quantizationError(x, weight);
      expect(error.dataSync()).toEqual(Float32Array.of(NaN));
    }
  });

  test("nested scales are values of bitsandbytes' dynamic map, scaled and then offset", () => {
    // bitsandbytes, functional.py: create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8).
    const magnitudes = [0, 1, 2, 3, 4, 5, 6].flatMap((i) =>
      Array.from({ length: 2 ** i }, (_, part) => 10 ** (i - 6) * (0.1 + (0.9 * (part + 0.5)) / 2 ** i)),
    );
    const map = [...magnitudes.map((value) => -value), 0, 1, ...magnitudes].sort((a, b) => a - b);
    using codes = device().tensor(new Uint8Array(256 * 32).fill(0xff)); // 1 in nf4
    using scales = device().tensor(Uint8Array.from({ length: 256 }, (_, row) => row));
    using rows = device().tensor(new Float32Array(256).fill(0.5), [256, 1]);
    const weight = { format: "nf4_nested", codes: codes.reshape([256, 32]), scales: scales.reshape([256, 1]) };
    using values = dequantize({ ...weight, superScales: rows, superZeros: rows });
    const firsts = values.dataSync().filter((_, index) => index % 64 === 0);
    const expected = map.map((value) => Math.fround(0.5 * Math.fround(value) + 0.5));
    expect(firsts).toEqual(Float32Array.from(expected));
  });

  test("takes a column order and scale, and leaves out inputs that there are not", () => {
    const columns = 32;
    const order = Int32Array.from({ length: columns }, (_, column) => (column * 5 + 3) % columns);
    const factors = Float32Array.from({ length: columns }, (_, column) => 1 + column / 8);
    const random = new Random("order");
    using x = device().tensor(random.normals(3 * columns), [3, columns]);
    using weight = quantize(x, "int8_g32");
    using plain = dequantize(weight);
    const stored = plain.dataSync();
    using inputScale = device().tensor(factors);
    const given = (inputOrder: Tensor<"i32">) => dequantize({ ...weight, inputOrder, inputScale }).dataSync();
    const expected = new Float32Array(3 * columns);
    stored.forEach((value, index) => {
      const column = index % columns;
      expected[index - column + (order[column] as number)] = Math.fround(value * (factors[column] as number));
    });
    using inputOrder = device().tensor(order);
    expect(given(inputOrder)).toEqual(expected);
    const strange = order.slice();
    for (const [column, input] of [-1, columns, 2 ** 31 - 1].entries()) {
      strange[column] = input;
      for (let row = 0; row < 3; row++) expected[row * columns + (order[column] as number)] = 0;
    }
    using strangeOrder = device().tensor(strange);
    expect(given(strangeOrder)).toEqual(expected);
  });

  test("quantises each of stacked matrices by itself", () => {
    const random = new Random("stacked");
    using x = device().tensor(random.normals(3 * 4 * 64), [3, 4, 64]);
    using weight = quantize(x, "nvfp4");
    using values = dequantize(weight);
    using errors = quantizationError(x, weight);
    expect([weight.codes.shape, values.shape, errors.shape]).toEqual([[3, 4, 32], [3, 4, 64], [3]]);
    for (let matrix = 0; matrix < 3; matrix++) {
      using slice = x.rows(matrix, matrix + 1);
      using one = slice.reshape([4, 64]);
      using alone = quantize(one, "nvfp4");
      using value = dequantize(alone);
      using error = quantizationError(one, alone);
      using expected = values.rows(matrix, matrix + 1);
      expect(value.dataSync()).toEqual(expected.dataSync());
      expect(error.dataSync()[0]).toBe(errors.dataSync()[matrix]);
    }
    using packed = packExperts(weight);
    expect([packed.format, packed.shape]).toEqual(["nvfp4", [3, 4, 64]]);
  });

  test("reads a part of a tensor of two matrices", () => {
    const random = new Random("part");
    const weight = randomQuantized(device(), random, "u4_g32_bf16", [6, 64]);
    const all = dequantize(weight).dataSync();
    const half = dequantize({ ...weight, part: "second_half" });
    expect(half.shape).toEqual([3, 64]);
    expect(half.dataSync()).toEqual(all.slice(3 * 64));
  });

  test("leaves no memory behind for a part that cuts groups of rows", () => {
    const weight = randomQuantized(device(), new Random("cut"), "e4m3_b128_f32", [6, 64]);
    const allocate = vi.spyOn(Device.prototype, "allocate");
    try {
      const message = /^weight: expected a matrix whose rows from 1 in steps of 2 .* dequantise it first$/;
      expectError(() => dequantize({ ...weight, part: "odd" }), "UNSUPPORTED_OPERATION", message);
      expect(allocate.mock.results.map(({ value }) => value.disposed)).toEqual([true]);
    } finally {
      allocate.mockRestore();
    }
  });
});

describe("the definition", () => {
  const device = reference;
  const random = new Random("definition");

  test.each(quantizableFormats)("%s: every code is the nearest", (format) => {
    const [rows, columns] = [3, 272];
    using x = device.tensor(random.normals(rows * columns, 0.05), [rows, columns]);
    const x32 = x.dataSync();
    for (const scale of scaleChoices) {
      using weight = quantize(x, format, { scale });
      const values = dequantize(weight, { dtype: "f64" }).dataSync();
      // What codes are multiplied by and moved by, from the values of two constant codes.
      const constant = (byte: number) => {
        using codes = device.tensor(new Uint8Array(weight.codes.size).fill(byte), weight.codes.shape);
        return dequantize({ ...weight, codes }, { dtype: "f64" }).dataSync();
      };
      const { bits } = weightFormat(format);
      const all = codeValues(format);
      const repeated = (code: number) => (bits === 8 ? code : bits === 4 ? code * 17 : code === 0 ? 0 : 255);
      const last = bits === 8 || bits === 4 ? 1 : 2 ** bits - 1;
      const [zero, one] = [constant(repeated(0)), constant(repeated(last))];
      const step = (all[last] as number) - (all[0] as number);
      values.forEach((value, index) => {
        const factor = ((one[index] as number) - (zero[index] as number)) / step;
        const base = (zero[index] as number) - (all[0] as number) * factor;
        const error = Math.abs(value - (x32[index] as number));
        const least = Math.min(...all.map((code) => Math.abs(base + code * factor - (x32[index] as number))));
        expect(error).toBeLessThanOrEqual(least + 1e-6);
      });
    }
  });

  // Relative errors of normal values, which are known for these formats: 4-bit integers have about 0.09 in groups of 32.
  test.each([
    ["int8", 0.008],
    ["int4_g32", 0.095],
    ["uint4_g32", 0.085],
    ["fp8", 0.028],
    ["mxfp8", 0.028],
    ["mxfp4", 0.125],
    ["nvfp4", 0.1],
    ["nf4", 0.096],
    ["q2_k", 0.35],
    ["q3_k", 0.19],
    ["q4_k", 0.08],
    ["q5_k", 0.04],
    ["q6_k", 0.02],
    ["iq4_xs", 0.088],
  ])("%s has a relative error below %d, and less by least squares", (format, bound) => {
    using x = device.tensor(random.normals(32 * 512, 0.05), [32, 512]);
    const [largest, leastSquares] = scaleChoices.map((scale) => {
      using weight = quantize(x, format, { scale });
      using error = quantizationError(x, weight);
      return error.dataSync()[0] as number;
    }) as [number, number];
    expect(largest).toBeLessThan(bound);
    expect(largest).toBeGreaterThan(bound / 2);
    expect(leastSquares).toBeLessThanOrEqual(largest);
  });

  const codesOf = (values: number[], format: string) => {
    using x = device.tensor(Float32Array.from(values), [1, values.length]);
    const { codes, scales, superScales, zeros } = quantize(x, format);
    const data = (tensor: Tensor | undefined) => tensor && [...tensor.dataSync()];
    return { codes: data(codes), scales: data(scales), superScales: data(superScales), zeros: data(zeros) };
  };
  const padded = (values: number[], count: number) => [...values, ...new Array(count - values.length).fill(0)];

  test("integers reach the largest element of either sign", () => {
    // 14 / 7 > 15 / 8: steps of 2. 3 / 2 and 5 / 2 lie between two codes and become the even one.
    const { codes, scales } = codesOf(padded([14, -15, 3, 5, -1], 16), "i4_g16_f32");
    expect(scales).toEqual([2]);
    expect(codes?.slice(0, 3)).toEqual([0x87, 0x22, 0x00]);
  });

  test("zero points move the range, which includes 0", () => {
    const { codes, scales, zeros } = codesOf(padded([-3, 12, 0, 1], 16), "u4_g16_f32");
    expect([scales, zeros]).toEqual([[1], [3]]);
    expect(codes?.slice(0, 2)).toEqual([0xf0, 0x43]);
    expect(codesOf(new Array(16).fill(30), "u4_g16_f32")).toMatchObject({ scales: [2], zeros: [0] });
  });

  test("minima of q4_1 need not include 0, those of q4_k do", () => {
    const values = Array.from({ length: 32 }, (_, index) => 100 + (index % 16));
    expect(codesOf(values, "q4_1")).toMatchObject({ scales: [1], zeros: [-100] });
    const { zeros, superScales } = codesOf(values, "q4_k");
    expect([zeros, superScales?.length]).toEqual([[0], 1]);
  });

  test("elements far beyond the largest scale are cut off at the table's ends", () => {
    // 65504 is the largest scale; the entries are from -127 to 113.
    const { codes } = codesOf(padded([1e20, -1e20], 16), "iq4_g16_f16");
    expect(codes?.[0]).toBe(0x0f);
  });

  test("scales of e8m0 are powers of two that cut nothing off", () => {
    expect(codesOf(padded([6], 32), "mxfp4").scales).toEqual([127]);
    expect(codesOf(padded([6.1], 32), "mxfp4").scales).toEqual([128]);
    expect(codesOf(padded([-3], 32), "mxfp4")).toMatchObject({ scales: [126], codes: padded([0x0f], 16) });
  });

  test("scales of scales are powers of two if scales are floats, else reach the largest", () => {
    expect(codesOf(padded([6 * 448], 16), "nvfp4")).toMatchObject({ scales: [0x7e], superScales: [1] });
    expect(codesOf(padded([6 * 449], 16), "nvfp4")).toMatchObject({ superScales: [2] });
    expect(codesOf(padded([31 * 127], 256), "q6_k")).toMatchObject({ superScales: [1] });
  });

  test("refuses what is no format to quantise to, and no matrix", () => {
    using x = device.tensor(new Float32Array(32), [1, 32]);
    const call = (values: unknown, format: unknown, options?: unknown) => () =>
      quantize(values as Tensor<"f32">, format as string, options as object);
    expectError(call(x, "bf16"), "UNSUPPORTED_DTYPE", /^format: expected a quantised format, got bf16/);
    expectError(
      call(x, "int9"),
      "UNSUPPORTED_DTYPE",
      /^format: expected the name of a weight format such as "int4_g128"/,
    );
    expectError(
      call(x, "fp4_nested"),
      "UNSUPPORTED_DTYPE",
      /^format: fp4_nested is only read from checkpoints, never quantised to; choose "fp4"/,
    );
    expectError(call(x, 4), "UNSUPPORTED_DTYPE", /^format: expected the name of a weight format .* got 4/);
    expectError(call(x, "int4", { scale: "best" }), "INVALID_ARGUMENT", /^scale: expected one of "largest"/);
    expectError(call(x, "int4", { search: true }), "INVALID_ARGUMENT", /no option "search"/);
    expectError(call(new Float32Array(32), "int4"), "INVALID_ARGUMENT", /^values: expected a Tensor/);
    using vector = device.tensor(new Float32Array(32));
    expectError(call(vector, "int4"), "SHAPE_MISMATCH", /^values: expected shape \[N, K\], got \[32\]/);
    using integers = device.tensor(new Int32Array(32), [1, 32]);
    expectError(call(integers, "int4"), "UNSUPPORTED_DTYPE", /^values: expected dtype f32, f16 or bf16, got i32/);
  });

  test("dequantize and quantizationError check their weight", () => {
    using x = device.tensor(new Float32Array(64), [2, 32]);
    using weight = quantize(x, "int4_g32");
    using other = device.tensor(new Float32Array(32), [1, 32]);
    expectError(() => quantizationError(other, weight), "SHAPE_MISMATCH", /^values: expected shape \[2, 32\]/);
    expectError(() => dequantize({ ...weight, scales: weight.codes }), "UNSUPPORTED_DTYPE", /^weight.scales: /);
    expectError(() => dequantize(x as never), "INVALID_ARGUMENT", /^weight: expected an object such as/);
    expectError(() => dequantize(weight, { dtype: "i32" as "f32" }), "UNSUPPORTED_DTYPE", /^dtype: /);
    const packed = (changes: object, options: PackOptions) => () => packExperts({ ...weight, ...changes }, options);
    const quantised = /^transpose cannot be combined with quantised weights$/;
    expectError(packed({}, { transpose: true }), "INVALID_ARGUMENT", quantised);
    expectError(packed({ part: "even" }, {}), "INVALID_ARGUMENT", /^weight\.part cannot be combined with packExperts$/);
    const { codes } = weight;
    weight[Symbol.dispose]();
    expectError(() => dequantize(weight), "DISPOSED", /./);
    expect(() => codes.dataSync()).toThrow(/disposed?|dispose\(\)/);
  });
});
