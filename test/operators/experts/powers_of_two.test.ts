import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../../support/devices.js";

// Scales that are powers of two may be added to the exponents of codes, as long as these have room.

const columns = 96;
const bytes = [30, 31, 35, 36, 37, 38, 100, 127, 150, 216, 217, 218, 219, 224];

/** Tokens times a matrix whose row n has scales of 2^(bytes[n] - 127): [tokens, rows]. */
function product(device: Device, format: "mxfp4" | "e4m3_g32_e8m0", dtype: "f32" | "bf16", tokens: number) {
  const random = new Random(`${format} ${tokens}`);
  const rowBytes = format === "mxfp4" ? columns / 2 : columns;
  const codes = Uint8Array.from({ length: bytes.length * rowBytes }, () => random.integer(0, 255));
  // NaN is no code.
  for (const [i, code] of codes.entries()) if ((code & 0x7f) === 0x7f) codes[i] = 0x08;
  const scales = Uint8Array.from(bytes.flatMap((byte) => [byte, byte, byte]));
  const x = device.tensor(random.normals(tokens * columns), [tokens, columns], dtype);
  const offsets = device.tensor(Int32Array.of(0, tokens));
  const weight = {
    format,
    codes: device.tensor(codes, [1, bytes.length, rowBytes]),
    scales: device.tensor(scales, [1, bytes.length, 3]),
  };
  return groupedGemm(x, packExperts(weight), offsets, { out: device.empty([tokens, bytes.length], "f32") }).dataSync();
}

const reference = openForTests("reference");

describe.each(kernelPaths)("scales that are powers of two, on $label", (path) => {
  const device = openForTests(path);

  test.each(["mxfp4", "e4m3_g32_e8m0"] as const)("%s: of all sizes multiply exactly", (format) => {
    for (const dtype of ["f32", "bf16"] as const) {
      for (const tokens of [1, 5, 70]) {
        const expected = product(reference(), format, dtype, tokens);
        const found = product(device(), format, dtype, tokens);
        for (const row of bytes.keys()) {
          const ofRow = (values: Float32Array) =>
            Float64Array.from({ length: tokens }, (_, t) => values[t * bytes.length + row] as number);
          const [got, wanted] = [ofRow(found), ofRow(expected)];
          // Few results may nearly cancel.
          const typical = 2 ** ((bytes[row] as number) - 127) * Math.sqrt(columns);
          const most = Math.max(typical, ...wanted.map(Math.abs));
          const error = Math.max(...got.map((value, t) => Math.abs(value - (wanted[t] as number))));
          expect(error / most).toBeLessThan(1e-5);
        }
      }
    }
  });
});
