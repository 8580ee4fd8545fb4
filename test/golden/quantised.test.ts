import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../lib/checkpoint/safetensors/index.js";
import type { DeviceName } from "../../lib/devices.js";
import { MoeLayer } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/run.js";
import { openForTests } from "../support/devices.js";

// Checkpoints in every quantised format, written by quantised/make_quantised.py, and what they compute in float64.

const root = join(import.meta.dirname, "quantised");
const cases = readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));

/** The devices that have kernels for quantised weights. */
const devices: readonly DeviceName[] = ["reference"];

/** The formats of the matrices, where a checkpoint leaves a choice. */
const formats: Readonly<Record<string, string>> = {
  fp8_blocks: "e4m3_b128_f32",
  fp8_blocks_bf16: "e4m3_b128_bf16",
  fp8_one_block: "e4m3_b128_f32",
  fp8_column_of_blocks: "e4m3_b128_f32",
  fp8_channel: "e4m3_channel_bf16",
  fp8_tensor: "e4m3_channel_f32",
  mxfp8: "e4m3_g32_e8m0",
  gpt_oss: "mxfp4",
  gpt_oss_original: "mxfp4",
  deepseek_mxfp4: "mxfp4",
  nvfp4_packed: "nvfp4",
  nvfp4_modelopt: "nvfp4",
  int4_packed: "i4_g32_bf16",
  int4_packed_asymmetric: "u4_g16_bf16",
  int8_packed: "i8_channel_f32",
  int3_packed: "i3_g16_bf16",
  int4_modelopt: "i4_g16_f32",
  gptq: "u4_g32_f16",
  gptq_8_bits: "u8_g32_f16",
  gptq_whole_rows: "u4_channel_f16",
  awq: "u4_g32_f16",
  bnb_nf4: "nf4_g64_f32",
  bnb_fp4: "fp4_g32_f32",
  bnb_int8: "i8_channel_f32",
};

async function readExpected(name: string) {
  await using file = await SafetensorsFile.open(join(root, name, "expected.safetensors"));
  const read = async (tensor: string) => (await file.read(tensor)).data;
  return {
    x: (await read("x")) as Float32Array,
    output: (await read("output")) as Float64Array,
    shape: file.info("x").shape,
  };
}

describe.each(devices)("quantised checkpoints on %s", (deviceName) => {
  const device = openForTests(deviceName);

  test.each(cases)("%s", async (name) => {
    const { x, output, shape } = await readExpected(name);
    using layer = await MoeLayer.load(join(root, name), { layer: 0, device: device() });
    using tokens = device().tensor(x, shape);
    using y = layer.forward(tokens);
    expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
    if (name in formats) expect(layer.description.formats.up).toBe(formats[name]);
  });

  test("are dequantised for a dtype", async () => {
    const { x, output, shape } = await readExpected("fp8_channel");
    using layer = await MoeLayer.load(join(root, "fp8_channel"), { layer: 0, device: device(), dtype: "f32" });
    expect(layer.description.formats).toMatchObject({ up: "f32", down: "f32" });
    using tokens = device().tensor(x, shape);
    expect(relativeError(await layer.forward(tokens).data(), output)).toBeLessThanOrEqual(1e-5);
  });
});

test("every case has a checkpoint", () => {
  expect(cases).toEqual(expect.arrayContaining(Object.keys(formats)));
});
