import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput } from "../../lib/checkpoint/safetensors/index.js";
import { dynamic8, weightFormat } from "../../lib/core/formats/weight_formats.js";
import { MoeLayer, openDevice } from "../../lib/index.js";
import { relativeError } from "../../lib/testing/difference.js";
import { writeModel } from "../checkpoint/support/model_directory.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { deviceNames, openForTests } from "../support/devices.js";

// Checkpoints in every quantised format, written by quantised/make_quantised.py or make_torchao.py, and what they compute in float64.

const root = join(import.meta.dirname, "quantised");
const cases = readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));

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
  int4_packed_smaller_group: "u4_g64_bf16",
  gptq_smaller_group: "u4_g64_f16",
  int8_packed: "i8_channel_f32",
  int3_packed: "i3_g16_bf16",
  int4_modelopt: "i4_g16_f32",
  int4_modelopt_fp8: "i4_g16_f32",
  int4_modelopt_stacked: "i4_g16_f32",
  int4_modelopt_stacked_narrow: "i4_g16_f32",
  int4_w4afp8: "i4_g32_bf16",
  int8_modelopt: "i8_channel_f32",
  fp8_groups_as_blocks: "e4m3_g32_f32",
  gpt_oss_linear: "i4_g32_bf16",
  gptq: "u4_g32_f16",
  gptq_act_order: "u4_g16_f16",
  int4_packed_ordered: "i4_g16_bf16",
  nvfp4_modelopt_awq: "nvfp4",
  int4_shared_bf16: "i4_g32_bf16",
  gptq_shared_f16: "u4_g16_f16",
  gptq_8_bits: "u8_g32_f16",
  gptq_whole_rows: "u4_channel_f16",
  awq: "u4_g32_f16",
  bnb_nf4: "nf4_g64_f32",
  bnb_fp4: "fp4_g32_f32",
  bnb_int8: "i8_channel_f32",
  bnb_nested: "nf4_g64_f32",
  bnb_nested_kept: "nf4_nested",
  gptq_shared_act_order: "u4_g16_f16",
  hqq_8_bits: "a8_channel_f32",
  hqq_6_bits: "a6_g16_f32",
  hqq_4_bits: "a4_channel_f32",
  hqq_3_bits: "a3_g32_f32",
  hqq_ternary: "a2_g32_f32",
  hqq_1_bit: "a2_g32_f32",
  hqq_4_bits_outputs: "f32",
  mlx_3_bits: "a3_g32_bf16",
  mlx_3_bits_g128: "a3_g128_f16",
  mlx_5_bits: "a5_g64_bf16",
  mlx_5_bits_g32: "a5_g32_f32",
  mlx_6_bits: "a6_g64_bf16",
  mlx_6_bits_g32: "a6_g32_f16",
  mlx_overrides: "a5_g32_bf16",
  mlx_modes: "e4m3_g32_e8m0",
  torchao_float8_row: "e4m3_channel_f32",
  torchao_float8_blocks: "e4m3_b128_f32",
  torchao_int8: "u8_channel_f32",
  torchao_int8_without_zeros: "i8_channel_f32",
  torchao_int4: "a4_g32_f32",
  torchao_intx_8_bits: "u8_channel_bf16",
  torchao_intx_4_bits: "u4_g32_bf16",
  torchao_intx_1_bit: "u2_g32_bf16",
  torchao_mxfp8: "e4m3_g32_e8m0",
  torchao_mxfp4: "mxfp4",
  torchao_nvfp4: "nvfp4",
};

/** Those of shared experts that have formats of their own. */
const sharedFormats: Readonly<Record<string, string>> = {
  int4_shared_bf16: "bf16",
  gptq_shared_f16: "f16",
  fp8_blocks_shared: "e4m3_g128_bf16",
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

describe.each(deviceNames)("quantised checkpoints on %s", (deviceName) => {
  const device = openForTests(deviceName);

  test.each(cases)("%s", async (name) => {
    const { x, output, shape } = await readExpected(name);
    using layer = await MoeLayer.load(join(root, name), { layer: 0, device: device() });
    using tokens = device().tensor(x, shape);
    using y = layer.forward(tokens);
    expect(relativeError(await y.data(), output)).toBeLessThanOrEqual(1e-5);
    if (name in formats) expect(layer.description.formats.up).toBe(formats[name]);
    if (name in sharedFormats) expect(layer.description.formats.shared?.up).toBe(sharedFormats[name]);
  });

  test.each(["fp8_channel", "bnb_nested_kept", "gptq_shared_act_order"])(
    "%s is dequantised for a dtype",
    async (name) => {
      const { x, output, shape } = await readExpected(name);
      using layer = await MoeLayer.load(join(root, name), { layer: 0, device: device(), dtype: "f32" });
      expect(layer.description.formats).toMatchObject({ up: "f32", down: "f32" });
      using tokens = device().tensor(x, shape);
      expect(relativeError(await layer.forward(tokens).data(), output)).toBeLessThanOrEqual(1e-5);
    },
  );
});

describe("codes and scales in different files", () => {
  const device = openForTests("reference");

  const names = ["fp8_blocks", "gpt_oss", "nvfp4_packed", "int4_packed_stacked", "gptq_act_order", "bnb_nested_kept"];
  test.each([...names, "torchao_int4_stacked"])("%s", async (name) => {
    const { x, shape } = await readExpected(name);
    await using file = await SafetensorsFile.open(join(root, name, "model.safetensors"));
    const weights = new Map<string, SafetensorsInput>();
    for (const tensor of file.tensors.keys()) weights.set(tensor, await file.read(tensor));
    const config = JSON.parse(readFileSync(join(root, name, "config.json"), "utf8"));
    using directory = temporaryDirectory();
    await writeModel(directory.path, { config, weights, metadata: file.metadata }, 3); // neighbours go to different files
    using tokens = device().tensor(x, shape);
    const outputs: Float32Array[] = [];
    for (const path of [join(root, name), directory.path]) {
      using layer = await MoeLayer.load(path, { layer: 0, device: device() });
      outputs.push(await layer.forward(tokens).data());
    }
    expect(outputs[1]).toEqual(outputs[0]);
  });
});

test("GPTQ's version 2 under its other name", async () => {
  const name = "gptq_v2";
  using device = openDevice("reference");
  const { x, output, shape } = await readExpected(name);
  using directory = temporaryDirectory();
  cpSync(join(root, name), directory.path, { recursive: true });
  const file = join(directory.path, "config.json");
  writeFileSync(file, readFileSync(file, "utf8").replace("gptq_v2", "gptq_p"));
  using layer = await MoeLayer.load(directory.path, { layer: 0, device });
  using tokens = device.tensor(x, shape);
  expect(relativeError(await layer.forward(tokens).data(), output)).toBeLessThanOrEqual(1e-5);
});

type MatrixOf = (rows: number, columns: number) => Record<string, SafetensorsInput>;

/** A layer of Qwen MoE of ordinary proportions, its matrices made of these tensors. No instruction set pads its sizes. */
async function writeLayer(directory: string, experts: number, matrix: MatrixOf, shared?: MatrixOf) {
  const [hidden, inner] = [768, 512];
  const weights = new Map<string, SafetensorsInput>();
  const addExpert = (stem: string, matrices: MatrixOf) => {
    for (const role of ["gate", "up", "down"]) {
      const [rows, columns] = role === "down" ? [hidden, inner] : [inner, hidden];
      for (const [suffix, tensor] of Object.entries(matrices(rows as number, columns as number))) {
        weights.set(`model.layers.0.mlp.${stem}.${role}_proj.${suffix}`, tensor);
      }
    }
  };
  const router = { dtype: "BF16", shape: [experts, hidden], data: new Uint16Array(experts * hidden) } as const;
  weights.set("model.layers.0.mlp.gate.weight", router);
  for (let expert = 0; expert < experts; expert++) addExpert(`experts.${expert}`, matrix);
  if (shared) {
    addExpert("shared_expert", shared);
    weights.set("model.layers.0.mlp.shared_expert_gate.weight", halves("BF16", 1, hidden as number));
  }
  const config = {
    model_type: shared ? "qwen2_moe" : "qwen3_moe",
    ...(shared && { shared_expert_intermediate_size: inner }),
    num_hidden_layers: 1,
    hidden_size: hidden,
    moe_intermediate_size: inner,
    num_experts: experts,
    num_experts_per_tok: 1,
  };
  await writeModel(directory, { config, weights }, 3);
  return [...weights.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}

const bytes = (dtype: "U8" | "F8_E4M3", ...shape: number[]): SafetensorsInput => ({
  dtype,
  shape,
  data: new Uint8Array(shape.reduce((a, b) => a * b)).fill(1),
});
const ints = (...shape: number[]): SafetensorsInput => ({
  dtype: "I32",
  shape,
  data: new Int32Array(shape.reduce((a, b) => a * b)),
});
/** The groups of columns, the last group first. */
const backwards = (columns: number, group: number): SafetensorsInput => ({
  dtype: "I32",
  shape: [columns],
  data: Int32Array.from({ length: columns }, (_, column) => Math.floor((columns - 1 - column) / group)),
});
const halves = (dtype: "F16" | "BF16", ...shape: number[]): SafetensorsInput => ({
  dtype,
  shape,
  data: new Uint16Array(shape.reduce((a, b) => a * b)),
});
/** A matrix as bitsandbytes writes it, with nested scales. */
const nestedNf4: MatrixOf = (n, k) => {
  const [blocks, state] = [(n * k) / 64, { blocksize: 64, nested_blocksize: 256, nested_offset: 0.0625 }];
  const floats = (data: Float32Array): SafetensorsInput => ({ dtype: "F32", shape: [data.length], data });
  const text = new TextEncoder().encode(
    JSON.stringify({ quant_type: "nf4", dtype: "bfloat16", shape: [n, k], ...state }),
  );
  return {
    weight: bytes("U8", (n * k) / 2, 1),
    "weight.absmax": bytes("U8", blocks),
    "weight.quant_map": floats(Float32Array.from(weightFormat("nf4").table as readonly number[])),
    "weight.nested_absmax": floats(new Float32Array(Math.ceil(blocks / 256)).fill(0.01)),
    "weight.nested_quant_map": floats(Float32Array.from(dynamic8)),
    "weight.quant_state.bitsandbytes__nf4": { dtype: "U8", shape: [text.length], data: text },
  };
};
const float = (): SafetensorsInput => ({ dtype: "F32", shape: [1], data: Float32Array.of(1) });

describe.each(["cpu", "simt"] as const)(
  "on %s, weights take the bytes of their files and at most 5 %% more",
  (name) => {
    const device = openForTests(name);

    const packed: MatrixOf = (n, k) => ({ weight_packed: ints(n, k / 8), weight_scale: halves("BF16", n, k / 32) });

    test.each<[string, MatrixOf, MatrixOf?]>([
      ["mxfp4", (n, k) => ({ weight_packed: bytes("U8", n, k / 2), weight_scale: bytes("U8", n, k / 32) })],
      [
        "nvfp4",
        (n, k) => ({
          weight: bytes("U8", n, k / 2),
          weight_scale: bytes("F8_E4M3", n, k / 16),
          weight_scale_2: float(),
        }),
      ],
      [
        "e4m3_b128_bf16",
        (n, k) => ({ weight: bytes("F8_E4M3", n, k), weight_scale_inv: halves("BF16", n / 128, k / 128) }),
      ],
      ["e4m3_channel_f32", (n, k) => ({ weight: bytes("F8_E4M3", n, k), weight_scale: float() })],
      ["i4_g32_bf16", packed],
      ["i4_g32_bf16", packed, (n, k) => ({ weight: halves("BF16", n, k) })],
      ["i4_g32_bf16", (n, k) => ({ ...packed(n, k), weight_g_idx: backwards(k, 32) })],
      [
        "nvfp4",
        (n, k) => ({
          weight: bytes("U8", n, k / 2),
          weight_scale: bytes("F8_E4M3", n, k / 16),
          weight_scale_2: float(),
          pre_quant_scale: halves("BF16", k),
        }),
      ],
      ["nf4_nested", nestedNf4],
      [
        "u4_g128_f16",
        (n, k) => ({ qweight: ints(k / 8, n), qzeros: ints(k / 128, n / 8), scales: halves("F16", k / 128, n) }),
      ],
    ])("%s", async (format, matrix, shared) => {
      const load = async (experts: number) => {
        using directory = temporaryDirectory();
        const stored = await writeLayer(directory.path, experts, matrix, shared);
        using layer = await MoeLayer.load(directory.path, { layer: 0, device: device() });
        await device().synchronize();
        expect(layer.description.formats.up).toBe(format);
        return { stored, bytes: layer.byteLength };
      };
      // One expert more, since a router of few experts is mostly padding.
      const [some, more] = [await load(2), await load(3)];
      const stored = more.stored - some.stored;
      expect(more.bytes - some.bytes).toBeGreaterThan(0.9 * stored);
      expect(more.bytes - some.bytes).toBeLessThanOrEqual(1.05 * stored);
    });
  },
);

test("every case has a checkpoint", () => {
  expect(cases).toEqual(expect.arrayContaining(Object.keys(formats)));
});
