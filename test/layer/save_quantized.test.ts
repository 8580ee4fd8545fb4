import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../lib/core/device/device.js";
import type { WeightFormatName } from "../../lib/core/formats/weight_format.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import type { MoeLayerConfig } from "../../lib/layer/description/config.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { type QuantizedWeight, tensorsOf } from "../../lib/operators/experts/quantized_weight.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { type InputChange, randomInputs, randomQuantized } from "../../lib/testing/inputs/random_quantized.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames, openForTests } from "../support/devices.js";
import { expectRejection } from "../support/errors.js";
import { expectSame, layerOf, saved } from "../support/saved_layers.js";

/** One of every kind of code, of group and of scale, and all that have names of their own. */
const formats: readonly WeightFormatName[] = [
  ...["mxfp4", "nvfp4", "q4_1", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs", "nf4_nested"],
  ...["iq3_xxs", "iq3_s", "iq2_xxs", "iq2_xs", "iq2_s", "iq1_s", "iq1_m"],
  ...["i2_g16_f32", "i3_g32_f16", "i4_g32_bf16", "i5_g16_f32", "i6_channel_f32", "i8_channel_bf16"],
  ...["u2_g16_bf16", "u3_g32_f16", "u4_g128_bf16", "u5_channel_f32", "u6_g64_f32", "u8_g32_f16"],
  ...["a2_g32_f16", "a3_g64_bf16", "a4_g64_bf16", "a8_channel_f32"],
  ...["e4m3_b128_f32", "e4m3_channel_f32", "e4m3_g32_e8m0", "nf4_g64_f32", "fp4_g64_f32", "iq4_g32_f16"],
];

// Neither is a multiple of a tile, and inner is more than one block of rows.
const [hidden, inner, experts] = [288, 160, 3];
const config: MoeLayerConfig = { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 2 };

type Matrices = Readonly<Record<"gate" | "up" | "down", QuantizedWeight>>;

function expertOf(
  device: Device,
  random: Random,
  format: Readonly<Record<keyof Matrices, WeightFormatName>>,
  change: InputChange = "none",
  width = inner,
): Matrices {
  const matrix = (role: keyof Matrices, shape: readonly [number, number]) => ({
    ...randomQuantized(device, random, format[role], shape),
    ...randomInputs(device, random, change, shape[1]),
  });
  return {
    gate: matrix("gate", [width, hidden]),
    up: matrix("up", [width, hidden]),
    down: matrix("down", [hidden, width]),
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => Buffer.from(buffer, byteOffset, byteLength);
/** Matchers compare large arrays slowly. */
const sameBytes = (a: ArrayBufferView, b: ArrayBufferView) => bytesOf(a).equals(bytesOf(b));

const all = (format: WeightFormatName) => ({ gate: format, up: format, down: format });

function layerIn(device: Device, format: WeightFormatName, change: InputChange = "none") {
  const random = new Random(format);
  const list = Array.from({ length: experts }, (_, index) =>
    expertOf(device, random, all(format), index === 1 ? change : "none"),
  );
  const router = device.tensor(random.normals(experts * hidden), [experts, hidden]);
  return { list, layer: MoeLayer.create({ ...config, device, router, experts: list }) };
}

describe.each(deviceNames)("quantised experts saved and loaded on %s", (name) => {
  const device = openForTests(name);

  test.each(formats)("in %s are in the file as they were given", async (format) => {
    const { list, layer } = layerIn(device(), format);
    await expectSame(layer);
    using directory = temporaryDirectory();
    const path = join(directory.path, "layer.safetensors");
    await layer.save(path);
    await using file = await SafetensorsFile.open(path);
    for (const [expert, matrices] of list.entries()) {
      for (const [role, weight] of Object.entries(matrices)) {
        const fields = Object.entries(weight).filter(([field]) => field !== "format") as [string, Tensor][];
        expect(fields).toHaveLength(tensorsOf(weight).length);
        for (const [field, tensor] of fields) {
          const { data, shape } = await file.read(`experts.${expert}.${role}.${field}`);
          expect(shape).toEqual(tensor.shape);
          expect([field, sameBytes(data, await tensor.raw())]).toEqual([field, true]);
        }
      }
    }
    layer.dispose();
  });

  test.each(["scale", "order", "both"] as const)("with the inputs' %s", async (change) => {
    const { layer } = layerIn(device(), "i4_g32_bf16", change);
    await expectSame(layer);
    layer.dispose();
  });

  test("with an odd number of columns", async () => {
    using layer = layerOf(device(), { ...config, hiddenSize: 37, intermediateSize: 21, dtype: "i3_g16_f32" });
    await expectSame(layer);
  });

  test("with formats and inputs of their own, and a shared expert in others", async () => {
    const random = new Random("mixed");
    const format = { gate: "i4_g32_bf16", up: "q4_k", down: "u8_channel_f32" };
    const list = Array.from({ length: experts }, () => expertOf(device(), random, format, "scale"));
    const width = 2 * inner + 32;
    const shared = expertOf(
      device(),
      random,
      { gate: "i8_channel_f32", up: "i8_channel_f32", down: "mxfp4" },
      "none",
      width,
    );
    const sharedExpert = { intermediateSize: width };
    using layer = layerOf(device(), { ...config, experts: list, sharedExpert, shared });
    await expectSame(layer);
  });

  test("with a wide shared expert that scales its inputs", async () => {
    const random = new Random("wide");
    const list = Array.from({ length: experts }, () => expertOf(device(), random, all("i4_g32_bf16")));
    const width = inner + 64;
    const shared = expertOf(device(), random, all("i4_g32_bf16"), "scale", width);
    using layer = layerOf(device(), { ...config, experts: list, sharedExpert: { intermediateSize: width }, shared });
    await expectSame(layer);
  });

  test("that were quantised when the layer was made", async () => {
    for (const dtype of ["int4_g32", "nvfp4", { experts: "int8", down: "bf16" }] as const) {
      using layer = layerOf(device(), { ...config, dtype });
      await expectSame(layer);
    }
  });

  test("with tokens rounded to 8 bits", async () => {
    for (const tokenFormat of ["int8", "fp8"] as const) {
      using layer = layerOf(device(), { ...config, dtype: "int8", tokenFormat });
      await expectSame(layer);
    }
  });

  test("in another dtype", async () => {
    using layer = layerOf(device(), { ...config, dtype: "int8", tokenFormat: "int8" });
    using directory = temporaryDirectory();
    const path = join(directory.path, "layer.safetensors");
    await layer.save(path);
    using loaded = await MoeLayer.load(path as "layer.safetensors", { device: device(), dtype: "f32" });
    expect(loaded.description).toMatchObject({ tokenFormat: "none", weightDType: "f32", formats: { up: "f32" } });
    using unrounded = await MoeLayer.load(path as "layer.safetensors", { device: device(), tokenFormat: "none" });
    expect(unrounded.description).toEqual({ ...layer.description, tokenFormat: "none" });
  });

  test("with a shared expert that was quantised in parts are refused", async () => {
    const sharedExpert = { intermediateSize: 80 };
    using layer = layerOf(device(), { ...config, intermediateSize: 40, sharedExpert, dtype: { shared: "i4_g32_f16" } });
    const refused = /shared\.down: expected groups of i4_g32_f16 that do not cut .* multiples of intermediateSize 40/;
    await expectRejection(saved(layer), "UNSUPPORTED_OPERATION", refused);
  });

  test("with a matrix's scalar in the scales", async () => {
    const random = new Random("scalar");
    const scaled = ({ gate, ...others }: Matrices) => ({ ...others, gate: { ...gate, scalar: 0.3 } });
    const list = Array.from({ length: experts }, () => scaled(expertOf(device(), random, all("i4_g32_f32"))));
    using layer = layerOf(device(), { ...config, experts: list });
    if (name !== "reference") await expectSame(layer);
    else await expectRejection(saved(layer), "UNSUPPORTED_OPERATION", /scalar 0\.3 .*; make the layer from scales/);
  });
});
