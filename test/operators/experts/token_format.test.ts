import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import { type TokenFormat, tokenScheme } from "../../../lib/core/formats/token_format.js";
import { weightFormat } from "../../../lib/core/formats/weight_formats.js";
import { openDevice } from "../../../lib/devices.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { roundTokens } from "../../../lib/reference/formats/token_codes.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomInputs, randomQuantized } from "../../../lib/testing/inputs/random_quantized.js";
import { isas, kernelPaths, openForTests, withIsa } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { anyProduct, roundedProduct } from "../../support/rounded_products.js";

// Products with rounded tokens are among the cases of lib/testing/cases/token_formats.ts. Here: what rounding means, and that it
// is the same to the bit everywhere.

const rounded = ["int8", "fp8", "fp8_ue8m0"] as const;
const formats = [
  ...(["i8_channel_f32", "i4_g32_bf16", "u3_g16_f32", "mxfp4", "e4m3_g128_f32", "e4m3_channel_f32"] as const),
  // Scales of e8m0, which only change exponents: of columns for which tokens have scales too, and of few.
  ...(["e4m3_g128_e8m0", "e2m1_g16_e8m0"] as const),
  // Integer scales below a scale of their own: with minima and without, of segments of 16 and of 32.
  ...(["q2_k", "q4_k", "q6_k", "iq4_xs", "iq3_xxs", "iq2_xxs", "iq1_m"] as const),
];
const schemes = [
  { format: "int8", columns: 0 },
  { format: "fp8", columns: 0 },
  { format: "fp8", columns: 128 },
  { format: "fp8_ue8m0", columns: 0 },
  { format: "fp8_ue8m0", columns: 128 },
] as const;

/** The identity [1, K, K] in a format with codes of 8 bits and scales of 1. */
function identity(device: Device, format: "i8_channel_f32" | "e4m3_b128_f32", columns: number) {
  const integers = format === "i8_channel_f32";
  const codes = new Uint8Array(columns * columns);
  for (let k = 0; k < columns; k++) codes[k * (columns + 1)] = integers ? 1 : 0x38;
  const blocks = integers ? [1, columns, 1] : [1, Math.ceil(columns / 128), Math.ceil(columns / 128)];
  const scales = new Float32Array(blocks.reduce((size, one) => size * one)).fill(1);
  return { format, codes: device.tensor(codes, [1, columns, columns]), scales: device.tensor(scales, blocks) };
}

/** Float32 rows with values of every size. */
const anyRows = fc
  .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 150 }))
  .chain(([rows, columns]) =>
    fc.record({
      rows: fc.constant(rows),
      columns: fc.constant(columns),
      values: fc.float32Array({ minLength: rows * columns, maxLength: rows * columns, noNaN: true }),
      scales: fc.array(fc.constantFrom(0, 1, 2 ** -130, 2 ** -140, 1e-3, 1e30), { minLength: rows, maxLength: rows }),
      spread: fc.boolean(),
    }),
  )
  .map(({ rows, columns, values, scales, spread }) => ({
    rows,
    columns,
    // Values as they come lie hundreds of powers of two apart; without `spread` most of a row become codes.
    values: values.map((value, index) => {
      const scale = scales[Math.floor(index / columns)] as number;
      return spread ? value : Math.fround(Math.sin(value % 1000) * scale);
    }),
  }));

test("a rounded row is scales times the nearest codes", () => {
  fc.assert(
    fc.property(anyRows, fc.constantFrom(...schemes), ({ columns, values }, scheme) => {
      const x = Float64Array.from(values.subarray(0, columns));
      const width = scheme.columns === 0 ? columns : scheme.columns;
      const result = roundTokens(x, scheme);
      for (let first = 0; first < columns; first += width) {
        const [group, codes] = [x.subarray(first, first + width), result.subarray(first, first + width)];
        const largest = Math.max(...group.map(Math.abs));
        if (!Number.isFinite(largest)) {
          expect([...codes].every(Number.isNaN)).toBe(true);
          continue;
        }
        const exact = Math.fround(largest / (scheme.format === "int8" ? 127 : 448));
        const scale = scheme.format === "fp8_ue8m0" && exact > 0 ? 2 ** Math.ceil(Math.log2(exact)) : exact;
        // Scales below the normal numbers are not precise.
        if (scale < 2 ** -126) continue;
        group.forEach((value, k) => {
          // Half a unit, a little more as scale and quotient are rounded; for e4m3 units grow with the value.
          const unit =
            scheme.format === "int8" ? 1 : 2 ** Math.max(-9, Math.floor(Math.log2(Math.abs(value / scale))) - 3);
          expect(Math.abs((codes[k] as number) - value)).toBeLessThanOrEqual(scale * unit * 0.50001 + scale * 3e-5);
        });
      }
    }),
  );
});

test("codes are those of the definition", () => {
  const row = (values: readonly number[], scheme: (typeof schemes)[number]) => [
    ...roundTokens(Float64Array.from(values), scheme),
  ];
  // The largest is 127 or 448 times a scale of 1; ties go to the even code.
  expect(row([127, 0.5, 1.5, -2.5, 0.49, -127, 0], schemes[0])).toEqual([127, 0, 2, -2, 0, -127, 0]);
  expect(row([448, 17, 19, -27, 2 ** -10, 3 * 2 ** -10, 433], schemes[1])).toEqual([448, 16, 20, -28, 0, 2 ** -8, 448]);
  expect(row([0, 0, 0], schemes[0])).toEqual([0, 0, 0]);
  expect(row([1, Number.NaN], schemes[0])).toEqual([Number.NaN, Number.NaN]);
  expect(row([1, Number.NEGATIVE_INFINITY], schemes[1])).toEqual([Number.NaN, Number.NaN]);
  // 450 needs a scale of 2 if it is to be a power of two; 448 needs 1.
  expect(row([450, 2, 3, 0.5], schemes[3])).toEqual([448, 2, 3, 0.5]);
  expect(row([448, 17, 2 ** -9], schemes[3])).toEqual([448, 16, 2 ** -9]);
  // Groups have scales of their own.
  const long = Array.from({ length: 200 }, (_, k) => (k < 128 ? 448 : 2 ** -20 * 448));
  expect(row(long, schemes[2])).toEqual(long);
  expect(row([...long.slice(0, 199), Number.NaN], schemes[2]).map(Number.isNaN)).toEqual(long.map((_, k) => k >= 128));
});

test("which products have scales for groups of columns", () => {
  const scheme = (tokens: TokenFormat, format: string) => tokenScheme(tokens, weightFormat(format));
  expect(scheme("fp8", "e4m3_b128_f32")).toEqual({ format: "fp8", columns: 128 });
  expect(scheme("fp8", "e4m3_g128_bf16")).toEqual({ format: "fp8", columns: 128 });
  for (const format of ["e4m3_channel_f32", "e4m3_g32_e8m0", "i4_g128_bf16", "nvfp4"]) {
    expect(scheme("fp8", format)).toEqual({ format: "fp8", columns: 0 });
  }
  expect(scheme("fp8_ue8m0", "e4m3_b128_f32")).toEqual({ format: "fp8_ue8m0", columns: 128 });
  expect(scheme("int8", "e4m3_b128_f32")).toEqual({ format: "int8", columns: 0 });
  expect(scheme("int8", "bf16")).toBeUndefined();
  expect(scheme("none", "i8_channel_f32")).toBeUndefined();
});

/** With an offset, with two levels of scales, with a table; groups of 16 to all columns. */
const integerFormats = [
  ...["i2", "i3", "i5", "i6"].map((code) => `${code}_g32_f16`),
  "i4_g128_bf16",
  "i8_channel_f32",
  "u4_g32_f16",
  "u8_g16_f32",
  "a4_g64_bf16",
  "a8_g32_f32",
  "mxfp4",
  "nvfp4",
  "iq4_g32_f16",
  ...[
    "q2_k",
    "q3_k",
    "q4_k",
    "q5_k",
    "q6_k",
    "iq4_xs",
    "iq3_xxs",
    "iq3_s",
    "iq2_xxs",
    "iq2_xs",
    "iq2_s",
    "iq1_s",
    "iq1_m",
  ],
];
/** More columns than are summed at once: blocks of them end within a scale of scales. */
const columnsOf = (format: string) =>
  format === "i8_channel_f32" ? [1, 300, 5000] : format === "q4_k" || format === "q6_k" ? [256, 4352] : [512];

// But portable code, which has no fused multiply-add to scale sums with: also that beside the model of tiles where AVX-512 is missing.
const fused = isas.filter((isa) => isa !== "portable" && (isa !== "amx_model" || isas.includes("avx512")));
test.each(integerFormats)("int8 times %s has the same bits on every vector instruction set", async (format) => {
  const outputs = 40;
  for (const columns of columnsOf(format)) {
    const results: Float32Array[] = [];
    for (const isa of fused) {
      using device = withIsa(isa, () => openDevice("cpu", { poison: true }));
      const random = new Random(format);
      using packed = packExperts(
        { ...randomQuantized(device, random, format, [outputs, columns], 0.1, [2]), columns },
        { tokenFormat: "int8" },
      );
      using x = device.tensor(random.normals(33 * columns), [33, columns]);
      using offsets = device.tensor(Int32Array.of(0, 29, 33));
      results.push((await groupedGemm(x, packed, offsets).data()) as Float32Array);
    }
    for (const result of results) expect(result).toEqual(results[0]);
  }
});

describe.each(kernelPaths)("on $label", (path) => {
  const device = openForTests(path);

  test.each([
    ["i8_channel_f32", 0x80, -128],
    ["i8_channel_f32", 0x7f, 127],
    ["u8_channel_f32", 0xff, 255],
    ["i4_g32_f32", 0x88, -8],
    ["u4_g32_f32", 0xff, 15],
    ["iq4_g32_f32", 0x00, -127],
  ])("no sum of the largest products saturates: %s of %i", async (format, byte, value) => {
    const [rows, columns, outputs] = [3, 5024, 17];
    const { bits, offset, scales } = weightFormat(format);
    const groups = scales?.columns === 0 ? 1 : columns / 32;
    const filled = (width: number, byte: number) =>
      device().tensor(new Uint8Array(outputs * width).fill(byte), [1, outputs, width]);
    using packed = packExperts(
      {
        format,
        codes: filled((columns * bits) / 8, byte),
        scales: device().tensor(new Float32Array(outputs * groups).fill(1), [1, outputs, groups]),
        ...(offset && { zeros: filled(groups, 0) }),
      },
      { tokenFormat: "int8" },
    );
    // The signs of 1, -1 and alternately of both. Sums in float32 lose some of so many equal terms.
    const x = Float32Array.from({ length: rows * columns }, (_, index) => {
      const row = Math.floor(index / columns);
      return row === 0 || (row === 2 && index % 2 === 0) ? 1 : -1;
    });
    using offsets = device().tensor(Int32Array.of(0, rows));
    using tokens = device().tensor(x, [rows, columns]);
    const y = (await groupedGemm(tokens, packed, offsets).data()) as Float32Array;
    for (const [row, sum] of [columns, -columns, 0].entries()) {
      for (const result of y.subarray(row * outputs, (row + 1) * outputs)) {
        expect(Math.abs(result - sum * value)).toBeLessThanOrEqual(1e-4 * columns * Math.abs(value));
      }
    }
  });

  test.each([
    ["q2_k", [0xff], 15],
    ["q3_k", [0x00], 0x80],
    ["q4_k", [0xff], 63],
    ["q5_k", [0xff], 63],
    ["q6_k", [0x00], 0x80],
    ["iq4_xs", [0x00], 0x80],
    // The points with the largest coordinates, again and again.
    ["iq3_xxs", [0x87, 0x87, 0x00], 0x80],
    ["iq2_s", [0xff, 0x03, 0xfc, 0x0f, 0xf0, 0x3f, 0xc0, 0xff, 0x00], 0x80],
  ])("nor that of the largest integer scales: %s", async (format, bytes, scale) => {
    using reference = openDevice("reference");
    const [rows, columns, outputs] = [3, 4352, 17];
    const results = await Promise.all(
      [reference, device()].map((on) => {
        const weight = randomQuantized(on, new Random(format), format, [outputs, columns], 0.1, [1]);
        weight.codes.write(
          Uint8Array.from({ length: weight.codes.size }, (_, at) => bytes[at % bytes.length] as number),
        );
        weight.scales?.write(new Uint8Array(weight.scales.size).fill(scale));
        weight.zeros?.write(new Uint8Array(weight.zeros.size).fill(scale));
        const packed = packExperts({ ...weight, columns }, { tokenFormat: "int8" });
        // All of one sign, or of both.
        const x = Float32Array.from({ length: rows * columns }, (_, index) => {
          const row = Math.floor(index / columns);
          return row === 0 || (row === 2 && index % 2 === 0) ? 1 : -1;
        });
        return groupedGemm(on.tensor(x, [rows, columns]), packed, on.tensor(Int32Array.of(0, rows))).data();
      }),
    );
    expect(relativeError(results[1] as Float32Array, results[0] as Float32Array)).toBeLessThan(1e-5);
  });

  test("products of any sizes are those of the reference", async () => {
    using reference = openDevice("reference", { poison: true });
    await fc.assert(
      fc.asyncProperty(anyProduct(formats), async (problem) => {
        const expected = await roundedProduct(reference, problem);
        expect(relativeError(await roundedProduct(device(), problem), expected)).toBeLessThan(1e-5);
      }),
      { numRuns: path.label === "simt" ? 15 : 40 },
    );
  });

  test("the identity returns rows rounded by the definition, to the bit", async () => {
    await fc.assert(
      fc.asyncProperty(anyRows, fc.constantFrom(...rounded), fc.boolean(), async (drawn, tokenFormat, blocks) => {
        const { rows, columns } = drawn;
        // Kernels that read e4m3 as multiples of 2^-8 have scales of 2^8 as much, for which 2^120 would be too large.
        const most = tokenFormat === "fp8_ue8m0" ? 2 ** 119 * 448 : Number.POSITIVE_INFINITY;
        const values = drawn.values.map((value) => (Math.abs(value) > most ? value / 2 : value));
        const format = blocks ? "e4m3_b128_f32" : "i8_channel_f32";
        using packed = packExperts(identity(device(), format, columns), { tokenFormat });
        using x = device().tensor(values, [rows, columns]);
        using offsets = device().tensor(Int32Array.of(0, rows));
        using y = groupedGemm(x, packed, offsets);
        const scheme = tokenScheme(tokenFormat, weightFormat(format));
        if (scheme === undefined) throw new Error("tokens are rounded");
        const expected = Array.from({ length: rows }, (_, row) => {
          const wanted = roundTokens(Float64Array.from(values.subarray(row * columns, (row + 1) * columns)), scheme);
          // NaN anywhere makes NaN of the whole row: 0 * NaN is NaN.
          return wanted.some(Number.isNaN) ? wanted.fill(Number.NaN) : wanted;
        });
        // Zeros have no sign here. Kernels may multiply codes of e4m3 by powers of two, which lose the least numbers.
        const least = scheme.columns === 0 ? 0 : 2 ** -100;
        const plain = (list: Iterable<number>) =>
          Array.from(list, (value) => (Math.abs(value) < least ? 0 : Math.fround(value) + 0));
        expect(plain(await y.data())).toEqual(expected.flatMap((row) => plain(row)));
      }),
      { numRuns: path.label === "simt" ? 20 : 60 },
    );
  });

  test("a row's bits do not depend on its batch", async () => {
    const [columns, outputs, count] = [300, 20, 150];
    const random = new Random("batch");
    using offsets = device().tensor(Int32Array.of(0, count));
    for (const tokenFormat of rounded) {
      for (const format of ["i8_channel_f32", "i4_g32_bf16", "e4m3_g128_f32", "e4m3_g128_e8m0", "q4_k", "q6_k"]) {
        using packed = packExperts(
          {
            ...randomQuantized(device(), random, format, [outputs, columns], 0.1, [1]),
            ...randomInputs(device(), random, "both", columns, [1]),
            columns,
          },
          { tokenFormat, activation: "swiglu" },
        );
        using x = device().tensor(random.normals(count * columns), [count, columns], "bf16");
        const all = await groupedGemm(x, packed, offsets).data();
        for (const [first, size] of [
          [0, 1],
          [7, 12],
          [90, 60],
        ] as const) {
          using some = x.rows(first, first + size);
          using end = device().tensor(Int32Array.of(0, size));
          const part = all.slice((first * outputs) / 2, ((first + size) * outputs) / 2);
          expect(await groupedGemm(some, packed, end).data()).toEqual(part);
        }
      }
    }
  });

  test("packed experts tell their token format, and are used with it only", () => {
    const weight = randomQuantized(device(), new Random(1), "i8_channel_f32", [4, 32], 0.1, [1]);
    using packed = packExperts(weight, { tokenFormat: "int8" });
    using without = packExperts(weight);
    expect([packed.tokenFormat, without.tokenFormat]).toEqual(["int8", "none"]);
    using x = device().tensor(new Float32Array(32), [1, 32]);
    using offsets = device().tensor(Int32Array.of(0, 1));
    groupedGemm(x, packed, offsets, { tokenFormat: "int8" }).dispose();
    groupedGemm(x, weight, offsets, { tokenFormat: "fp8" }).dispose();
    expectError(
      () => groupedGemm(x, without, offsets, { tokenFormat: "fp8" }),
      "INVALID_ARGUMENT",
      /tokenFormat: expected "none", which the weights were packed for, got "fp8"/,
    );
    using plain = device().tensor(new Float32Array(4 * 32), [1, 4, 32]);
    expectError(
      () => packExperts(plain, { tokenFormat: "int8" }),
      "INVALID_ARGUMENT",
      /tokenFormat: expected "none" with weights that are not quantised \(f32\), got "int8"/,
    );
    expectError(
      () => packExperts(weight, { tokenFormat: "int4" as "int8" }),
      "INVALID_ARGUMENT",
      /tokenFormat: expected .*none.*int8.*fp8.*, got "int4"/,
    );
  });
});
