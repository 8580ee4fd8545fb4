import { describe, expect, test } from "vitest";
import { loadNative } from "../../lib/core/addon/native.js";
import type { GridCodes } from "../../lib/core/formats/grids.js";
import { commonFormats } from "../../lib/core/formats/weight_format.js";
import {
  bitsPerWeight,
  findFormat,
  mostBitsPerWeight,
  namedFormats,
  weightFormat,
} from "../../lib/core/formats/weight_formats.js";
import { storageFormat } from "../../lib/layer/description/storage.js";
import { quantizableFormat } from "../../lib/operators/formats/quantize.js";
import { expectError } from "../support/errors.js";

const codes = ["i", "u"].flatMap((sign) => [2, 3, 4, 5, 6, 8].map((bits) => `${sign}${bits}`));
const groups = ["channel", "b128", ...[16, 32, 48, 64, 128, 256, 1024].map((columns) => `g${columns}`)];
const scales = ["f32", "f16", "bf16", "e4m3", "e8m0"];
/** Minima have a sign, which these scales lack. */
const signless = ["e4m3", "e8m0"];
const affine = [2, 3, 4, 5, 6, 8].flatMap((bits) =>
  groups.flatMap((group) =>
    scales.filter((type) => !signless.includes(type)).map((type) => `a${bits}_${group}_${type}`),
  ),
);
const composed = [...codes, "e4m3", "e2m1", "nf4", "fp4", "iq4"].flatMap((code) =>
  groups.flatMap((group) => scales.map((scale) => `${code}_${group}_${scale}`)),
);

const gridData = ({ coordinates, numberBits, signBits, points }: GridCodes) => {
  return { coordinates, numberBits, signBits, points: [...points] };
};

describe("weight formats", () => {
  const native = loadNative();

  test("are the same in TypeScript and in the native addon", () => {
    const names = [...composed, ...affine, ...namedFormats.keys()].filter((name) => name !== "f64");
    for (const name of names) {
      const format = weightFormat(name);
      const table = format.table && { table: [...Float32Array.from(format.table)] };
      const grid = format.grid && { grid: gridData(format.grid) };
      expect(native.weightFormat(name)).toEqual({ ...format, ...table, ...grid });
    }
  });

  test.each([
    "",
    "_",
    "__",
    "i4",
    "i4_g32",
    "i7_g32_f32",
    "i9_g32_f32",
    "i4_g0_f32",
    "i4_g8_f32",
    "i4_g24_f32",
    "i4_g032_f32",
    "i4_g1040_f32",
    "i4_g2048_f32",
    "i4_g99999999999_f32",
    "i4_g32_u6",
    "a4_g32_e4m3",
    "a4_g32_e8m0",
    "a7_g32_f16",
    "i4_g32_f32_",
    "x4_g32_f32",
    "I4_g32_f32",
    "i4_channel64_f32",
    "e4m3_b64_f32",
    "i4_g32_f32\n",
    "constructor",
    "__proto__",
  ])("%j is the name of none", (name) => {
    expect(findFormat(name)).toBeUndefined();
    expect(native.weightFormat(name)).toBeNull();
    expectError(() => weightFormat(name), "UNSUPPORTED_DTYPE", /format: expected the name of a weight format/);
  });

  test("the names that editors propose are formats to quantise to, and errors suggest them", () => {
    for (const name of commonFormats) expect(quantizableFormat(name, "format").name).toBe(findFormat(name)?.name);
    const message = /got "q4k"; did you mean "q4_k"\?$/;
    expectError(() => weightFormat("q4k"), "UNSUPPORTED_DTYPE", message);
    expectError(() => storageFormat("q4k", "dtype"), "INVALID_ARGUMENT", message);
    expectError(() => weightFormat("frobnicate"), "UNSUPPORTED_DTYPE", /got "frobnicate"$/);
  });

  test.each([
    ["int4", "i4_g128_bf16"],
    ["int4_g32", "i4_g32_bf16"],
    ["int4_channel", "i4_channel_f32"],
    ["uint3_g64", "u3_g64_bf16"],
    ["int8", "i8_channel_f32"],
    ["uint8_g128", "u8_g128_bf16"],
    ["fp8", "e4m3_channel_f32"],
    ["fp8_b128", "e4m3_b128_f32"],
    ["mxfp8", "e4m3_g32_e8m0"],
    ["nf4", "nf4_g64_f32"],
    ["fp4_g128", "fp4_g128_f32"],
    ["q4_0", "i4_g32_f16"],
    ["q8_0", "i8_g32_f16"],
    ["iq4_nl", "iq4_g32_f16"],
    ["q4_k", "q4_k"],
  ])("%s is short for %s", (short, long) => {
    expect(weightFormat(short)).toBe(weightFormat(long));
    expect(weightFormat(short).name).toBe(long);
  });

  test.each(["int7", "int4_g8", "int4_g24", "int", "int4_f32", "fp8_e4m3", "mxfp4_g32", "uint4_g128_bf16"])(
    "%s is short for none",
    (name) => {
      expect(findFormat(name)).toBeUndefined();
    },
  );

  test("have these bits per weight", () => {
    const bits = { f32: 32, bf16: 16, i8_channel_f32: 8 + 32 / 512, i4_g32_bf16: 4.5, u4_g128_f16: 4 + 24 / 128 };
    const more = {
      e4m3_b128_f32: 8 + 32 / 16384,
      mxfp4: 4.25,
      nvfp4: 4.5 + 32 / 512,
      q4_1: 5,
      q4_k: 4 + 16 / 32 + 32 / 256,
      q2_k: 2 + 8 / 16 + 32 / 256,
      iq3_s: 26 / 8 + 4 / 32 + 16 / 256,
      iq2_xxs: 2 + 4 / 32 + 16 / 256,
      iq1_m: 12 / 8 + 4 / 16 + 16 / 256,
      nf4_nested: 4 + 8 / 64 + 32 / 256 + 32 / 512,
    };
    for (const [name, expected] of Object.entries({ ...bits, ...more })) {
      expect(bitsPerWeight(weightFormat(name), 512)).toBe(expected);
    }
  });

  test("have more where points of grids are not looked up", () => {
    expect(mostBitsPerWeight(weightFormat("iq3_s"), 512)).toBe(4 + 8 / 32 + 16 / 256);
    expect(mostBitsPerWeight(weightFormat("q2_k"), 512)).toBe(2 + 8 / 16 + 32 / 256);
  });
});
