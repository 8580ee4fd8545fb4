import { join } from "node:path";
import { expect, test } from "vitest";
import { scaledWeight } from "../../../lib/checkpoint/locate/scaled_weight.js";
import { writeSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import { shapeSize } from "../../../lib/core/tensors/shape.js";
import { dequantize, MoeLayer, openDevice, quantize, type Tensor } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const device = openDevice("reference");
const [rows, columns] = [4, 512];
const matrix = device.tensor(new Random("weights").normals(rows * columns), [rows, columns]);

const levels = ["scales", "superScales", "zeros", "superZeros"] as const;

/** A weight as a checkpoint has it, in a file that nobody reads. */
function located(format: string, shape: readonly number[], convert?: () => { codes: Uint8Array }) {
  const file = { path: "model.safetensors", readRange: async () => {} };
  const ranges = [{ file, name: "down", byteOffset: 0, byteLength: 0 }];
  return { name: "down", format, shape, layout: {}, ranges, ...(convert && { convert }) };
}

const formats = ["int8", "i4_g32_bf16", "i4_g32_f16", "uint4_g128", "fp8", "mxfp4", "nvfp4", "nf4"] as const;

test.each([...formats, "q4_1", "q4_k", "q2_k", "q6_k"])("%s times a power of two", async (format) => {
  const weight = quantize(matrix, format);
  const before = await dequantize(weight).data();
  const present = levels.filter((level) => weight[level] !== undefined);
  const fields: Record<string, ArrayBufferView> = { codes: await weight.codes.data() };
  for (const level of present) fields[level] = await (weight[level] as Tensor).raw();
  for (const factor of [0.5, 4]) {
    const scaled = scaledWeight(
      located(weight.format, [rows, columns], () => fields as { codes: Uint8Array }),
      factor,
    );
    const read = await scaled.convert([]);
    const tensors = present.map((level) => {
      const { shape, dtype } = weight[level] as Tensor;
      const { buffer } = new Uint8Array(read[level] as Uint8Array);
      const bits = { f32: Float32Array, f16: Uint16Array, bf16: Uint16Array }[dtype as "f32"] ?? Uint8Array;
      const tensor = device.empty(shape, dtype);
      tensor.handle.write(new bits(buffer), false);
      return [level, tensor];
    });
    const after = dequantize({ ...weight, ...Object.fromEntries(tensors) });
    expect(await after.data()).toEqual(before.map((value) => value * factor));
  }
});

test.each(["f32", "f16", "bf16"] as const)("%s times a power of two, from bytes at any place", async (dtype) => {
  const tensor = device.tensor(Float32Array.of(1.5, -0.375, 0, 96), [2, 2], dtype);
  const bits = await tensor.raw();
  const bytes = new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  const { codes } = await scaledWeight(located(dtype, [2, 2]), 0.5).convert([shifted.subarray(1)]);
  const expected = await device.tensor(Float32Array.of(0.75, -0.1875, 0, 48), [2, 2], dtype).raw();
  expect(new Uint8Array(codes)).toEqual(new Uint8Array(expected.buffer, expected.byteOffset, expected.byteLength));
});

test("a scale that is NaN stays so, and others stay within their range", async () => {
  const scales = Uint8Array.of(0, 1, 127, 254, 255);
  const fields = { codes: new Uint8Array(80), scales };
  const times = async (factor: number) => [
    ...((
      await scaledWeight(
        located("mxfp4", [5, 32], () => fields),
        factor,
      ).convert([])
    ).scales as Uint8Array),
  ];
  expect(await times(0.5)).toEqual([0, 0, 126, 253, 255]);
  expect(await times(4)).toEqual([2, 3, 129, 254, 255]);
});

test("scales of 8-bit floats are refused", () => {
  const message = /down.*: expected scales of f32, f16, bf16, e8m0 to multiply them by 0\.5, got e4m3 in e2m1_g16_e4m3/;
  expectError(() => scaledWeight(located("e2m1_g16_e4m3", [4, 32]), 0.5), "UNSUPPORTED_OPERATION", message);
});

function drawn(name: string, shape: readonly number[]) {
  return [name, { dtype: "F32", shape, data: new Random(name).normals(shapeSize(shape)) }] as const;
}

/** Expects that a factor of 0.5 halves the outputs of a layer. */
async function expectHalved(load: (factor: number) => Promise<MoeLayer>, hidden: number): Promise<void> {
  using x = device.tensor(new Random("x").normals(2 * hidden), [2, hidden]);
  const [whole, half] = await Promise.all([1, 0.5].map(async (factor) => await (await load(factor)).forward(x).data()));
  expect(half).toEqual(whole?.map((value) => value / 2));
}

test("a factor among the names of tensors", async () => {
  using directory = temporaryDirectory();
  const [hidden, inner, experts] = [4, 3, 2];
  const stack = (name: string, shape: number[]) => drawn(name, [experts, ...shape]);
  const path = join(directory.path, "model.safetensors");
  const tensors = [
    drawn("router", [experts, hidden]),
    stack("gate", [inner, hidden]),
    stack("up", [inner, hidden]),
    stack("down", [hidden, inner]),
  ];
  await writeSafetensors(path, new Map(tensors));
  const stacked = (name: string) => ({ name, stacked: "dim0" as const });
  const load = (factor: number) =>
    MoeLayer.load(path, {
      device,
      config: { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 1 },
      tensors: {
        router: "router",
        experts: { gate: stacked("gate"), up: stacked("up"), down: { ...stacked("down"), factor } },
      },
    });
  await expectHalved(load, hidden);
  const refused = /tensors\.experts\.down\.factor: expected a power of two, such as 0\.5, got 0\.3/;
  await expectRejection(load(0.3), "INVALID_ARGUMENT", refused);
});

test("a factor of one of two parts of a tensor", async () => {
  using directory = temporaryDirectory();
  const [hidden, inner] = [4, 3];
  const path = join(directory.path, "model.safetensors");
  const tensors = [
    drawn("router", [1, hidden]),
    drawn("both", [1, 2 * inner, hidden]),
    drawn("down", [1, hidden, inner]),
  ];
  await writeSafetensors(path, new Map(tensors));
  const stacked = "dim0";
  const load = (factor: number) =>
    MoeLayer.load(path, {
      device,
      config: { hiddenSize: hidden, intermediateSize: inner, numExperts: 1, topK: 1, activation: "reglu" },
      tensors: {
        router: "router",
        experts: {
          gate: { name: "both", stacked, part: "first_half", factor },
          up: { name: "both", stacked, part: "second_half" },
          down: { name: "down", stacked },
        },
      },
    });
  await expectHalved(load, hidden);
});
