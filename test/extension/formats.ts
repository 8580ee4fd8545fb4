import type { Device } from "../../lib/core/device/device.js";
import type { WeightFormat, WeightMatrix } from "../../lib/core/formats/weight_format.js";
import { namedFormats } from "../../lib/core/formats/weight_formats.js";
import type { Random } from "../../lib/testing/inputs/random.js";

// Weight formats of the tests, added from outside to those of lib/core/formats/weight_formats.ts. Their kernels are in
// test/native/extension.

/** Unsigned codes of 4 bits in groups of 16 columns, each with a float32 scale and a zero point. */
export const testU4G16: WeightFormat = {
  name: "test_u4_g16",
  code: "unsigned_integer",
  bits: 4,
  scales: { type: "f32", rows: 1, columns: 16 },
  offset: "zero_point",
};

(namedFormats as Map<string, WeightFormat>).set(testU4G16.name, testU4G16);

/** A random matrix in {@link testU4G16}, with values around 0 of the given deviation. Free it after use. */
export function randomU4G16(
  device: Device,
  random: Random,
  rows: number,
  columns: number,
  deviation: number,
): WeightMatrix {
  const [bytes, groups] = [Math.ceil(columns / 2), Math.ceil(columns / 16)];
  const integers = (count: number, most: number) => Uint8Array.from({ length: count }, () => random.integer(0, most));
  const matrix = (values: Uint8Array | Float32Array, width: number) => {
    const handle = device.tensor(values as Uint8Array, [rows, width]).handle;
    return { handle, rows, columns: width, rowStride: width, columnStride: 1 };
  };
  const scales = Float32Array.from({ length: rows * groups }, () => (deviation / 4) * (0.5 + random.uniform()));
  return {
    format: testU4G16.name,
    rows,
    columns,
    codes: matrix(integers(rows * bytes, 255), bytes),
    scales: matrix(scales, groups),
    zeros: matrix(integers(rows * groups, 15), groups),
  };
}
