import { expect, test } from "vitest";
import { extendedVector, joinedWeight } from "../../../lib/checkpoint/locate/joined_weight.js";
import type { LocatedWeight, QuantizedBytes } from "../../../lib/checkpoint/locate/located_weight.js";
import { isPlain, weightFormat } from "../../../lib/core/formats/weight_formats.js";
import { dequantize, openDevice, quantize, type Tensor } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { expectError } from "../../support/errors.js";

const device = openDevice("reference");
const levels = ["scales", "superScales", "zeros", "superZeros"] as const;

/** Random floats in a format, as a checkpoint has them in a file that nobody reads, and their values. */
async function located(name: string, format: string, shape: readonly [number, number]) {
  const numbers = new Random(name).normals(shape[0] * shape[1]);
  const range = { file: { path: "model.safetensors", readRange: async () => {} }, name, byteOffset: 0, byteLength: 0 };
  const common = { name, shape, layout: {}, ranges: [range] };
  if (isPlain(weightFormat(format))) {
    const floats = device.tensor(numbers, shape, format as "bf16");
    const { buffer } = await floats.raw();
    const found: LocatedWeight = { ...common, format, convert: () => ({ codes: new Uint8Array(buffer) }) };
    return { found, values: Float32Array.from(await floats.data()) };
  }
  const weight = quantize(device.tensor(numbers, shape), format);
  const fields: Record<string, ArrayBufferView> = { codes: await weight.codes.data() };
  for (const level of levels) if (weight[level]) fields[level] = await (weight[level] as Tensor).raw();
  const convert = () => fields as unknown as QuantizedBytes;
  const found: LocatedWeight = { ...common, format: weight.format, convert };
  return { found, values: Float32Array.from(await dequantize(weight).data()) };
}

/** The values of a matrix in a format, whose fields were read. */
async function valuesOf(format: string, shape: readonly number[], fields: QuantizedBytes): Promise<readonly number[]> {
  const sample = quantize(device.zeros(shape, "f32"), format);
  const tensors = (["codes", ...levels] as const)
    .filter((role) => sample[role])
    .map((role) => {
      const { shape, dtype } = sample[role] as Tensor;
      const { buffer } = new Uint8Array(fields[role] as Uint8Array);
      const bits = { f32: Float32Array, f16: Uint16Array, bf16: Uint16Array }[dtype as "f32"] ?? Uint8Array;
      const tensor = device.empty(shape, dtype);
      tensor.handle.write(new bits(buffer), false);
      return [role, tensor] as const;
    });
  return [...(await dequantize({ ...sample, ...Object.fromEntries(tensors) }).data())];
}

/** Rows of the first with those of the second, below or beside. */
function joined(axis: "rows" | "columns", first: Float32Array, second: Float32Array, rows: number): number[] {
  if (axis === "rows") return [...first, ...second];
  const [left, right] = [first.length / rows, second.length / rows];
  return Array.from({ length: rows }, (_, row) => [
    ...first.slice(row * left, (row + 1) * left),
    ...second.slice(row * right, (row + 1) * right),
  ]).flat();
}

const formats = [
  "i8_channel_f32",
  "i4_g32_bf16",
  "u4_g128_f16",
  "e4m3_b128_f32",
  "mxfp4",
  "nvfp4",
  "nf4_g64_f32",
  "q4_k",
  "q6_k",
];

test.each(formats)("rows in %s", async (format) => {
  const [first, second] = [await located("first", format, [128, 256]), await located("second", format, [64, 256])];
  const whole = joinedWeight([first.found, second.found], "rows");
  expect(whole).toMatchObject({ name: "first and second", format: first.found.format, shape: [192, 256] });
  const fields = await (whole.convert as NonNullable<typeof whole.convert>)([new Uint8Array(), new Uint8Array()]);
  expect(await valuesOf(whole.format, whole.shape, fields)).toEqual(joined("rows", first.values, second.values, 0));
});

test.each(["i4_g32_bf16", "u4_g128_f16", "e4m3_b128_f32", "mxfp4", "nf4_g64_f32", "q4_k", "q6_k"])(
  "columns in %s",
  async (format) => {
    const [first, second] = [await located("first", format, [130, 256]), await located("second", format, [130, 128])];
    const whole = joinedWeight([first.found, second.found], "columns");
    expect(whole).toMatchObject({ format: first.found.format, shape: [130, 384] });
    const fields = await (whole.convert as NonNullable<typeof whole.convert>)([new Uint8Array(), new Uint8Array()]);
    expect(await valuesOf(whole.format, whole.shape, fields)).toEqual(
      joined("columns", first.values, second.values, 130),
    );
  },
);

test("columns of different formats, or that would be cut inside a group, are float32", async () => {
  const first = await located("first", "q4_k", [5, 256]);
  const second = await located("second", "q8_0", [5, 32]);
  const withValues = ({ found, values }: typeof first): LocatedWeight => ({ ...found, values: async () => values });
  for (const [left, right] of [
    [first, second],
    [second, first],
    [second, await located("third", "bf16", [5, 3])],
  ] as const) {
    const whole = joinedWeight(
      [withValues(left), right.found.format === "bf16" ? right.found : withValues(right)],
      "columns",
    );
    expect(whole.format).toBe("f32");
    const { codes } = await (whole.convert as NonNullable<typeof whole.convert>)([new Uint8Array(), new Uint8Array()]);
    expect([...new Float32Array(codes.slice().buffer)]).toEqual(joined("columns", left.values, right.values, 5));
  }
});

test("what cannot be one matrix is refused", async () => {
  const { found } = await located("first", "i8_channel_f32", [4, 64]);
  const refuse = (other: LocatedWeight, message: RegExp) =>
    expectError(() => joinedWeight([found, other], "columns"), "UNSUPPORTED_OPERATION", message);
  refuse(
    found,
    /expected one format with whole groups of columns to make one matrix of first and first, got i8_channel_f32 of \[4, ?64\] and i8_channel_f32/,
  );
  const { found: other } = await located("second", "mxfp4", [4, 64]);
  refuse(other, /expected one format .* of first and second, got i8_channel_f32 of \[4, ?64\] and mxfp4 of \[4, ?64\]/);
  refuse(
    { ...found, layout: { orient: "in_out" } },
    /expected tensors of single matrices with outputs first .*, got in_out/,
  );
  refuse({ ...found, changesInputs: true }, /expected weights without an input scale or order .*, got such a weight/);
});

test.each(["f32", "f16", "bf16"])(
  "a vector in %s whose other elements are a number, or like its last",
  async (format) => {
    const { found, values } = await located("bias", format, [1, 3]);
    for (const [others, expected] of [
      [7, 7],
      ["the last", values[2]],
    ] as const) {
      const vector = extendedVector(found, 5, others);
      expect(vector).toMatchObject({ format: "f32", shape: [5] });
      const { codes } = await (vector.convert as NonNullable<typeof vector.convert>)([new Uint8Array()]);
      expect([...new Float32Array(codes.slice().buffer)]).toEqual([...values, expected, expected]);
    }
  },
);
