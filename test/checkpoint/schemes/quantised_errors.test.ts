import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { MoeLayer } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const root = join(import.meta.dirname, "..", "..", "golden", "quantised");

interface Checkpoint {
  config: Record<string, unknown>;
  weights: Map<string, SafetensorsInput>;
  metadata: Record<string, string>;
}

async function read(name: string): Promise<Checkpoint> {
  const config = JSON.parse(readFileSync(join(root, name, "config.json"), "utf8"));
  const own = readdirSync(join(root, name)).find((file) => /^quant/.test(file));
  if (own !== undefined) config.quantization_config = JSON.parse(readFileSync(join(root, name, own), "utf8"));
  await using file = await SafetensorsFile.open(join(root, name, "model.safetensors"));
  const weights = new Map<string, SafetensorsInput>();
  for (const tensor of file.tensors.keys()) weights.set(tensor, await file.read(tensor));
  return { config, weights, metadata: { ...file.metadata } };
}

/** The last expert's up matrix: what is wrong with it alone is noticed too. */
const up = (suffix: string) => `model.layers.0.mlp.experts.2.up_proj.${suffix}`;

describe("quantised checkpoints with mistakes are BAD_CHECKPOINT, with the tensor's name", () => {
  const device = openForTests("reference");

  async function refuse(name: string, change: (model: Checkpoint) => void, message: RegExp): Promise<void> {
    const model = await read(name);
    change(model);
    using directory = temporaryDirectory();
    await writeModel(directory.path, model);
    await expectRejection(MoeLayer.load(directory.path, { layer: 0, device: device() }), "BAD_CHECKPOINT", message);
  }

  const without =
    (suffix: string) =>
    ({ weights }: Checkpoint) =>
      weights.delete(up(suffix));
  const replaced =
    (suffix: string, tensor: (old: SafetensorsInput) => SafetensorsInput) =>
    ({ weights }: Checkpoint) =>
      weights.set(up(suffix), tensor(weights.get(up(suffix)) as SafetensorsInput));
  const filled = (suffix: string, value: number, at = 3) =>
    replaced(suffix, (old) => {
      const data = (old.data as Uint8Array).slice();
      data[at] = value;
      return { ...old, data } as SafetensorsInput;
    });
  const reshaped = (suffix: string, ...shape: number[]) =>
    replaced(suffix, (old) => {
      const length = shape.reduce((a, b) => a * b, 1);
      const data = new (old.data.constructor as Uint8ArrayConstructor)(length);
      return { ...old, shape, data } as SafetensorsInput;
    });
  const added = (suffix: string, tensor: SafetensorsInput) => (model: Checkpoint) => {
    model.weights.set(up(suffix), tensor);
  };
  const set =
    (fields: Record<string, unknown>) =>
    ({ config }: Checkpoint) => {
      config.quantization_config = { ...(config.quantization_config as object), ...fields };
    };
  const scale: SafetensorsInput = { dtype: "F32", shape: [1], data: Float32Array.of(1) };

  describe("missing tensors", () => {
    test.each([
      ["fp8_blocks", "weight_scale_inv", /up_proj\.weight": expected a tensor ".*up_proj\.weight_scale_inv" beside it/],
      ["fp8_channel", "weight_scale", /up_proj\.weight": expected a tensor ".*up_proj\.weight_scale" beside it/],
      ["deepseek_mxfp4", "scale", /expected dtype F32, F16 or BF16, or codes with scales, got I8/],
      [
        "mxfp4_packed",
        "weight_scale",
        /weight_packed": expected dtype .*, got none of these beside ".*weight_packed" .* and no scales, such as ".*weight_scale"/,
      ],
      ["nvfp4_packed", "weight_global_scale", /expected a tensor ".*up_proj\.weight_global_scale" beside it/],
      ["nvfp4_modelopt", "weight_scale_2", /expected a tensor ".*up_proj\.weight_scale_2" beside it/],
      ["int4_packed", "weight_scale", /expected a tensor ".*up_proj\.weight_scale" beside it/],
      ["gptq", "qzeros", /qweight": expected a tensor ".*up_proj\.qzeros" beside it/],
      ["gptq", "scales", /expected a tensor ".*up_proj\.scales" beside it/],
      ["gptq_act_order", "g_idx", /expected a tensor ".*up_proj\.g_idx" beside it/],
      ["awq", "qzeros", /expected a tensor ".*up_proj\.qzeros" beside it/],
      ["awq", "qweight", /"model.*up_proj\.(weight|scales|qzeros)"/],
      ["bnb_nf4", "weight.absmax", /expected a tensor ".*up_proj\.weight\.absmax" beside it/],
      ["bnb_nf4", "weight.quant_map", /expected a tensor ".*up_proj\.weight\.quant_map" beside it/],
      ["bnb_nested", "weight.nested_absmax", /expected a tensor ".*up_proj\.weight\.nested_absmax" beside it/],
      ["bnb_int8", "SCB", /got I8 beside ".*weight_format" \(U8\)/],
      [
        "bnb_nf4",
        "weight",
        /model\.safetensors: tensor "model.*up_proj\.weight": expected a tensor ".*up_proj\.weight" beside it/,
      ],
      [
        "int4_packed",
        "weight_packed",
        /model\.safetensors: tensor "model.*up_proj\.weight": expected .*, got none of these beside ".*weight_scale" \(BF16\)/,
      ],
      [
        "int4_packed_asymmetric",
        "weight_zero_point",
        /weight_packed": expected a tensor ".*up_proj\.weight_zero_point" beside it/,
      ],
      ["int8_asymmetric", "weight_zero_point", /weight": expected a tensor ".*up_proj\.weight_zero_point" beside it/],
    ])("%s without %s", async (name, suffix, message) => {
      await refuse(name, without(suffix), message);
    });
  });

  test("an input scale beside an input order", async () => {
    const factors: SafetensorsInput = { dtype: "F32", shape: [64], data: new Float32Array(64).fill(1) };
    await refuse(
      "gptq_act_order",
      added("pre_quant_scale", factors),
      /pre_quant_scale": expected no such tensor beside an order of the columns/,
    );
  });

  describe("torchao", () => {
    const weight = up("weight");
    const part = (name: string) => `_weight_${name}`;
    /** With other metadata of the last expert's up matrix. */
    const described =
      (change: (metadata: Record<string, unknown>) => void) =>
      ({ metadata }: Checkpoint) => {
        const fields = JSON.parse(metadata[weight] as string);
        change(fields);
        metadata[weight] = JSON.stringify(fields);
      };
    const ofClass = (name: unknown) => described((fields) => Object.assign(fields, { _type: name }));
    const having = (attributes: Record<string, unknown>) =>
      described((fields) => Object.assign(fields._data as object, attributes));
    /** The tensor of a part, as an error names it. */
    const renamed =
      (from: string, to: string) =>
      ({ weights }: Checkpoint) => {
        weights.set(to, weights.get(from) as SafetensorsInput);
        weights.delete(from);
      };

    test.each<[string, string, (model: Checkpoint) => void, RegExp]>([
      [
        "a missing scale",
        "torchao_float8_row",
        without(part("scale")),
        /up_proj\._weight_qdata": expected a tensor ".*\.2\.up_proj\._weight_scale" beside it, got none/,
      ],
      [
        "missing zero points",
        "torchao_int8",
        without(part("zero_point")),
        /_weight_qdata": expected a tensor ".*up_proj\._weight_zero_point" beside it, got none/,
      ],
      [
        "missing codes",
        "torchao_int4",
        without(part("qdata")),
        /up_proj\.weight": expected a tensor ".*up_proj\._weight_qdata" beside it, got none/,
      ],
      [
        "no metadata",
        "torchao_int4",
        ({ metadata }) => delete metadata[weight],
        /_weight_qdata": expected torchao's metadata ".*\.2\.up_proj\.weight" in the file, .*, got none/,
      ],
      [
        "metadata that are no JSON",
        "torchao_int4",
        ({ metadata }) => Object.assign(metadata, { [weight]: "{" }),
        /model\.safetensors: metadata "model.*up_proj\.weight": expected/,
      ],
      [
        "tiles",
        "torchao_int4",
        ofClass("Int4TilePackedTo4dTensor"),
        /metadata ".*up_proj\.weight": _type: expected one of Float8Tensor, .*, got "Int4TilePackedTo4dTensor", which is not read: its codes are in the tiles of a kernel/,
      ],
      ["another class", "torchao_int4", ofClass("NF4Tensor"), /_type: expected one of .*, got "NF4Tensor"$/],
      ["no class", "torchao_int4", ofClass(undefined), /_type: expected one of .*, got undefined$/],
      [
        "another class than the tensors show",
        "torchao_int4",
        ofClass("IntxUnpackedToInt8Tensor"),
        /_data: target_dtype: expected the dtype of the codes, got no such field/,
      ],
      [
        "scales in tiles",
        "torchao_nvfp4",
        having({ is_swizzled_scales: true }),
        /metadata ".*up_proj\.weight": _data: is_swizzled_scales: expected false, got true/,
      ],
      [
        "scales in tiles by their older name",
        "torchao_mxfp8",
        having({ _is_swizzled_scales: true }),
        /_data: _is_swizzled_scales: expected false, got true/,
      ],
      [
        "no list of parts",
        "torchao_int8",
        described((fields) => Object.assign(fields, { _tensor_data_names: "qdata" })),
        /_tensor_data_names: expected a list of parts, got "qdata"/,
      ],
      [
        "unknown parts",
        "torchao_int8",
        described((fields) => Object.assign(fields, { _tensor_data_names: ["qdata", "sparsity"] })),
        /_tensor_data_names: expected some of qdata, .*, got "sparsity"/,
      ],
      [
        "parts that the metadata do not list",
        "torchao_float8_row",
        added(part("zero_point"), { dtype: "I8", shape: [32, 1], data: new Int8Array(32) }),
        /_weight_zero_point": expected no such tensor for a matrix in e4m3_channel_f32/,
      ],
      [
        "codes of another shape",
        "torchao_int4",
        reshaped(part("qdata"), 32, 64),
        /_weight_qdata": expected shape \[32, 32\] from .*, got \[32, 64\]/,
      ],
      [
        "scales that are not turned",
        "torchao_int4",
        reshaped(part("scale"), 32, 2),
        /_weight_scale": expected shape \[32, 32\] from .*, got \[32, 2\]/,
      ],
      [
        "zero points of another shape",
        "torchao_int4",
        reshaped(part("zero_point"), 1, 32),
        /_weight_zero_point": expected shape \[2, 32\] from .*, got \[1, 32\]/,
      ],
      [
        "a scale for each column",
        "torchao_float8_row",
        reshaped(part("scale"), 1, 64),
        /_weight_scale": expected shape \[1, 1\] or \[32\] or \[32, 1\] or \[1\] from .*, got \[1, 64\]/,
      ],
      [
        "codes in another float",
        "torchao_float8_row",
        replaced(part("qdata"), (old) => ({ ...old, dtype: "F8_E5M2" })),
        /_weight_qdata": expected dtype F32, F16 or BF16, or codes with scales, got F8_E5M2 beside ".*_weight_scale" \(F32\)/,
      ],
      [
        "NaN in scales",
        "torchao_int4",
        filled(part("scale"), 0x7fc0, 33),
        /_weight_scale": expected finite scales, got NaN or infinity at \[1, 1\]/,
      ],
      [
        "infinity in what is added",
        "torchao_int4",
        filled(part("zero_point"), 0x7f80, 33),
        /_weight_zero_point": expected finite scales, got NaN or infinity at \[1, 1\]/,
      ],
      [
        "NaN in scales of bytes",
        "torchao_intx_4_bits",
        filled(part("scale"), 0x7fc0, 3),
        /_weight_scale": expected finite scales, got NaN or infinity at \[1, 1\]/,
      ],
      [
        "codes of more bits",
        "torchao_intx_4_bits",
        filled(part("qdata"), 8, 67),
        /_weight_qdata": expected integers of 4 bits, got 8 at \[1, 3\]/,
      ],
      [
        "zero points of more bits",
        "torchao_intx_3_bits",
        filled(part("zero_point"), -5, 5),
        /_weight_zero_point": expected integers of 3 bits, got -5 at \[1, 1\]/,
      ],
      [
        "codes of no known bits",
        "torchao_intx_4_bits",
        having({ target_dtype: { _type: "torch.dtype", _data: "uint4" } }),
        /_data: target_dtype: _data: expected one of "int1", .*, got "uint4"/,
      ],
      [
        "zero points in floats",
        "torchao_intx_4_bits",
        replaced(part("zero_point"), ({ shape }) => ({ dtype: "BF16", shape, data: new Uint16Array(64) })),
        /_weight_zero_point": expected dtype I8, got BF16/,
      ],
      [
        "the names of torchao 0.14",
        "torchao_float8_row",
        renamed("model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate.weight:_data"),
        /mlp\.gate\.weight:_data": expected the name "model\.layers\.0\.mlp\.gate\.weight", got one that only torchao 0\.14 writes; save/,
      ],
    ])("%s", async (_, name, change, message) => {
      await refuse(name, change, message);
    });
  });

  describe("HQQ", () => {
    const integer = (value: number): SafetensorsInput => ({ dtype: "I32", shape: [], data: Int32Array.of(value) });
    test.each<[string, (model: Checkpoint) => void, RegExp]>([
      ["another axis", added("axis", integer(2)), /up_proj\.W_q": expected groups along axis 0 or 1, got axis 2/],
      [
        "groups across rows",
        added("group_size", integer(48)),
        /expected groups of columns that divide a row \(axis 1\), got groups of 48 in 32 x 64|got groups of 48 in \d+ x 64/,
      ],
      ["other bits", added("nbits", integer(7)), /expected codes of 1, 1\.58, 2, .* or 8 bits, got nbits 7/],
      ["bits of other codes", added("nbits", integer(2)), /W_q": expected \d+ bytes for .* codes of 2 bits, got \d+/],
      ["no axis", without("axis"), /expected a tensor ".*up_proj\.axis" beside it/],
      [
        "an axis that is no number",
        added("axis", { dtype: "I32", shape: [2], data: new Int32Array(2) }),
        /axis": expected shape \[\]/,
      ],
      ["no zeros", without("zero"), /expected a tensor ".*up_proj\.zero" beside it/],
      ["scales of another shape", reshaped("scale", 8, 4), /scale": expected shape \[\d+, 1\]/],
      ["zeros that are no numbers", filled("zero", 0x7fc0), /zero": expected finite scales/],
    ])("%s", async (_, change, message) => {
      await refuse("hqq_4_bits", change, message);
    });

    test.each<[string, (model: Checkpoint) => void, RegExp]>([
      [
        "groups that do not divide the matrix",
        added("group_size", integer(48)),
        /up_proj\.W_q": expected groups that divide the matrix \(axis 0\), got groups of 48 in 32 x 64/,
      ],
      ["scales of the other axis", reshaped("scale", 32, 1), /scale": expected shape \[1, 32\] from .*, got \[32, 1\]/],
      ["no zeros", without("zero"), /W_q": expected a tensor ".*up_proj\.zero" beside it/],
      ["scales that are no numbers", filled("scale", 0x7e00, 5), /scale": expected finite scales, got .* at \[0, 5\]/],
      [
        "bits of other codes",
        added("nbits", integer(8)),
        /W_q": expected 2048 bytes for 32 x 64 codes of 8 bits, got 1024/,
      ],
    ])("of groups along the outputs: %s", async (_, change, message) => {
      await refuse("hqq_4_bits_outputs", change, message);
    });

    test("codes of more bits than named", async () => {
      await refuse("hqq_5_bits", filled("W_q", 32, 70), /W_q": expected codes of 5 bits, got 32 at \[1, 6\]/);
    });
  });

  describe("superfluous tensors", () => {
    test.each<[string, string, SafetensorsInput]>([
      ["fp8_blocks", "weight_scale", scale],
      ["int4_packed", "weight_scale_2", scale],
      ["gptq", "weight_scale", scale],
      ["awq", "g_idx", { dtype: "I32", shape: [64], data: new Int32Array(64) }],
      ["nvfp4_modelopt", "weight_global_scale", scale],
      ["nvfp4_modelopt_awq", "svdquant_lora_a", { dtype: "BF16", shape: [2, 64], data: new Uint16Array(128) }],
      ["bnb_nf4", "weight_scale", scale],
      ["bnb_nf4", "pre_quant_scale", scale],
      ["awq", "theta", scale],
      ["gptq", "w_bf16_to_fp8_scale", scale],
      ["fp8_channel", "weight_zp", scale],
    ])("%s with %s", async (name, suffix, tensor) => {
      const message = new RegExp(`up_proj\\.${suffix}": expected no such tensor for a matrix in`);
      await refuse(name, added(suffix, tensor), message);
    });

    test("scales beside floats", async () => {
      const data = new Float32Array(32 * 64);
      await refuse(
        "int8_channel",
        ({ weights }) => weights.set(up("weight"), { dtype: "F32", shape: [32, 64], data }),
        /up_proj\.weight_scale": expected no such tensor for a matrix in F32/,
      );
    });
  });

  describe("shapes and sizes", () => {
    test.each<[string, string, (model: Checkpoint) => unknown, RegExp]>([
      [
        "codes",
        "fp8_channel",
        reshaped("weight", 32, 32),
        /up_proj\.weight": expected shape \[32, 64\] .*, got \[32, 32\]/,
      ],
      [
        "blocks of another number",
        "fp8_blocks",
        reshaped("weight_scale_inv", 2, 1),
        /weight_scale_inv": expected shape \[2, 2\]/,
      ],
      [
        "a scale where blocks are declared",
        "fp8_column_of_blocks",
        reshaped("weight_scale", 160, 1),
        /expected shape \[2, 1\]/,
      ],
      [
        "scales that are none of the three",
        "fp8_channel",
        reshaped("weight_scale", 5),
        /weight_scale": expected shape \[1, 1\] or \[32\]/,
      ],
      ["scales of mxfp8", "mxfp8", reshaped("weight_scale_inv", 32, 1), /weight_scale_inv": expected shape \[32, 2\]/],
      [
        "rows of scales",
        "int4_packed",
        reshaped("weight_scale", 16, 2),
        /weight_scale": expected a scale for each of 32 rows/,
      ],
      [
        "groups that do not divide K",
        "int4_packed",
        reshaped("weight_scale", 32, 3),
        /scale for each group of the 64 columns, got 3/,
      ],
      [
        "groups of 8",
        "int4_packed",
        reshaped("weight_scale", 32, 8),
        /groups of a multiple of 16 columns.*groups of 8/,
      ],
      ["words", "int4_packed", reshaped("weight_packed", 32, 9), /expected codes of 2, 3, 4, 5, 6 or 8 bits/],
      [
        "codes of 7 bits",
        "int4_packed",
        reshaped("weight_packed", 32, 14),
        /expected codes of 2, 3, 4, 5, 6 or 8 bits/,
      ],
      [
        "zero points",
        "int4_packed_asymmetric",
        reshaped("weight_zero_point", 32, 4),
        /weight_zero_point": expected shape \[4, 4\]/,
      ],
      [
        "GPTQ's codes",
        "gptq",
        reshaped("qweight", 9, 32),
        /qweight": expected shape \[4, 32\] or \[6, 32\] or \[8, 32\] or/,
      ],
      ["GPTQ's groups", "gptq", reshaped("scales", 3, 32), /expected shape \[3, 4\]|qzeros": expected shape/],
      ["GPTQ's zero points", "gptq", reshaped("qzeros", 2, 5), /qzeros": expected shape \[2, 4\]/],
      ["AWQ's zero points", "awq", reshaped("qzeros", 2, 5), /qzeros": expected shape \[2, 4\]/],
      ["nested scales", "bnb_nested", reshaped("weight.nested_absmax", 2), /nested_absmax": expected shape \[1\]/],
      [
        "bitsandbytes' codes",
        "bnb_nf4",
        reshaped("weight", 100, 1),
        /up_proj\.weight": expected 2048 bytes for 64 x 64 codes of 4 bits, got 100$/,
      ],
      ["two rows a byte", "int4_modelopt", reshaped("weight", 32, 32), /up_proj\.weight": expected shape \[16, 64\]/],
    ])("%s", async (_, name, change, message) => {
      await refuse(name, change, message);
    });

    test("K is no multiple of a group", async () => {
      const block = "model.layers.0.mlp.experts";
      const hidden = (size: number) => (model: Checkpoint) => {
        model.config.hidden_size = size;
        const data = new Uint16Array(3 * size);
        model.weights.set("model.layers.0.mlp.gate.weight", { dtype: "BF16", shape: [3, size], data });
      };
      await refuse(
        "mxfp4_packed",
        hidden(72),
        new RegExp(`${block}.0.gate_proj.weight_packed": expected columns in groups of 32`),
      );
      await refuse("nvfp4_packed", hidden(72), /gate_proj\.weight_packed": expected columns in groups of 16, got 72/);
    });

    test("bitsandbytes' blocks that no group of a row fits", async () => {
      const odd = (model: Checkpoint) => {
        model.config.hidden_size = 40;
        const data = new Uint16Array(3 * 40);
        model.weights.set("model.layers.0.mlp.gate.weight", { dtype: "BF16", shape: [3, 40], data });
      };
      await refuse(
        "bnb_nf4",
        odd,
        /expected rows and blocks that have a multiple of 16 .* got 40 columns in blocks of 64/,
      );
    });
  });

  describe("values", () => {
    test.each<[string, string, (model: Checkpoint) => unknown, RegExp]>([
      [
        "a NaN code in e4m3",
        "fp8_channel",
        filled("weight", 0xff, 70),
        /up_proj\.weight": expected numbers, got NaN at \[1, 6\]/,
      ],
      [
        "a NaN scale",
        "fp8_blocks",
        filled("weight_scale_inv", Number.NaN),
        /weight_scale_inv": expected finite scales.* at \[1, 1\]/,
      ],
      [
        "an infinite scale",
        "fp8_channel",
        filled("weight_scale", 0x7f80),
        /weight_scale": expected finite scales.* at \[3, 0\]/,
      ],
      [
        "a NaN scale in e8m0",
        "mxfp4_packed",
        filled("weight_scale", 255),
        /weight_scale": expected finite scales.* at \[1, 1\]/,
      ],
      [
        "a NaN scale in e4m3",
        "nvfp4_modelopt",
        filled("weight_scale", 0x7f),
        /weight_scale": expected finite scales.* at \[0, 3\]/,
      ],
      [
        "a NaN input scale",
        "nvfp4_modelopt_awq",
        filled("pre_quant_scale", Number.NaN),
        /pre_quant_scale": expected finite scales.* at \[0, 3\]/,
      ],
      ["a NaN scale in f16", "gptq", filled("scales", 0x7e00, 33), /scales": expected finite scales.* at \[1, 1\]/],
      [
        "a divisor of 0",
        "nvfp4_packed",
        filled("weight_global_scale", 0, 0),
        /weight_global_scale": expected a finite number other than 0/,
      ],
      [
        "a zero point that version 1 leaves open",
        "gptq",
        filled("qzeros", -1),
        /qzeros": expected zero points from 0 to 14 .*got 15 at \[0, 24\]/,
      ],
      [
        "a zero point of more bits than the codes",
        "int4_packed_plain_zeros",
        filled("weight_zero_point", 8),
        /weight_zero_point": expected zero points from -8 to 7, got 8 at \[\d+, \d+\]/,
      ],
      [
        "a negative zero point of more bits than the codes",
        "int4_packed_plain_zeros",
        filled("weight_zero_point", -9),
        /weight_zero_point": expected zero points from -8 to 7, got -9 at \[\d+, \d+\]/,
      ],
      [
        "a group that does not exist",
        "gptq_act_order",
        filled("g_idx", 4),
        /g_idx": expected a group of the 4, got group 4 at column 3/,
      ],
      [
        "a negative group",
        "int4_packed_ordered",
        filled("weight_g_idx", -1),
        /g_idx": expected a group of the 4, got group -1/,
      ],
      [
        "too many columns in a group",
        "gptq",
        filled("g_idx", 0, 40),
        /g_idx": expected 32 columns in each group, got group 0 at column 40/,
      ],
      [
        "another table",
        "bnb_nf4",
        filled("weight.quant_map", 0.5),
        /quant_map": expected the table of nf4, got 0\.5 for code 3/,
      ],
      ...["bnb_nested", "bnb_nested_kept"].map(
        (name) =>
          [
            "an infinite size of nested scales",
            name,
            filled("weight.nested_absmax", Number.POSITIVE_INFINITY, 0),
            /nested_absmax": expected finite scales, got Infinity at \d+/,
          ] as [string, string, (model: Checkpoint) => unknown, RegExp],
      ),
      ...["bnb_nested", "bnb_nested_kept"].map(
        (name) =>
          [
            "NaN in the map of nested scales",
            name,
            filled("weight.nested_quant_map", Number.NaN),
            /nested_quant_map": expected finite scales, got NaN at 3/,
          ] as [string, string, (model: Checkpoint) => unknown, RegExp],
      ),
      [
        "columns before rows",
        "bnb_int8",
        replaced("weight_format", (old) => ({ ...old, data: Uint8Array.of(1) }) as never),
        /weight_format": expected 0/,
      ],
    ])("%s", async (_, name, change, message) => {
      await refuse(name, change, message);
    });
  });

  describe("configurations", () => {
    test.each<[string, string, (model: Checkpoint) => unknown, RegExp]>([
      [
        "blocks of another size",
        "fp8_blocks",
        set({ weight_block_size: [64, 128] }),
        /quantization_config: expected blocks of 128 x 128 weights, got 64 x 128/,
      ],
      [
        "a block size that is none",
        "fp8_blocks",
        set({ weight_block_size: [128] }),
        /weight_block_size: expected two integers >= 1, got \[128\]/,
      ],
      [
        "another version of GPTQ",
        "gptq",
        set({ checkpoint_format: "marlin" }),
        /checkpoint_format: expected "gptq", "gptq_v2" or, except with 3 bits, "gptq_p", got "marlin"/,
      ],
      [
        "codes of GPTQ in planes",
        "gptq_3_bits",
        set({ checkpoint_format: "gptq_p" }),
        /checkpoint_format: expected .*, except with 3 bits, "gptq_p", got "gptq_p" with 3 bits/,
      ],
      ["another version of AWQ", "awq", set({ version: "gemv" }), /version: expected "gemm", got "gemv"/],
      [
        "another version of AWQ in GPTQModel's words",
        "awq_gptqmodel",
        set({ checkpoint_format: "gemv_fast" }),
        /checkpoint_format: expected "gemm", got "gemv_fast"/,
      ],
      [
        "integers under the names of MXFP4",
        "mxfp4_packed",
        set({ quant_method: "auto-round", data_type: "mx_int" }),
        /quantization_config: data_type: expected "mx_fp" for codes with scales in U8, got "mx_int"/,
      ],
      [
        "inputs that are rotated when the model runs",
        "int4_packed",
        set({
          transform_config: {
            config_groups: {
              R2: { type: "hadamard", apply: [{ targets: ["re:.*o_proj$"], location: "input" }] },
              R4: { type: "hadamard", apply: [{ targets: ["re:.*down_proj$"], location: "input" }] },
            },
          },
        }),
        /transform_config: R4: expected no rotation of the experts' inputs or outputs, got one of \["re:\.\*down_proj\$"\]/,
      ],
      [
        "AutoRound's rotations",
        "auto_round",
        set({ rotation_config: { hadamard_type: "quarot_hadamard" } }),
        /rotation_config: expected no rotation of the experts' inputs/,
      ],
      [
        "blocks that are no text of two sizes",
        "fp8_blocks_as_text",
        set({ config_groups: { group_0: { weights: { strategy: "block", block_structure: "128" } } } }),
        /block_structure: expected two integers >= 1, got "128"/,
      ],
      [
        "an order that the configuration denies",
        "gptq_act_order",
        set({ desc_act: false }),
        /g_idx": expected the groups one after another, as desc_act is false/,
      ],
    ])("%s", async (_, name, change, message) => {
      await refuse(name, change, message);
    });

    test.each<[string, Record<string, unknown>, RegExp]>([
      ["is named", { quant_method: "vptq" }, /got "vptq" \(/],
      ["may have no name", { quant_method: undefined, w_bit: 4 }, /got no such field/],
    ])("an unknown method %s where its tensors are not known", async (_, fields, got) => {
      const other = (model: Checkpoint) => {
        set(fields)(model);
        without("weight_scale")(model);
      };
      const expected = /quant_method: expected one of fp8, mxfp4, .*bitsandbytes, .*/;
      await refuse("int8_channel", other, new RegExp(`${expected.source}${got.source}`));
    });
  });

  test.each<[Record<string, unknown>, RegExp]>([
    [{ format: "marlin-24" }, /format: expected one of dense, pack-quantized, .*, got "marlin-24" \(/],
    [
      { sparsity_config: { format: "sparse-24-bitmask" } },
      /sparsity_config: format: expected "dense", got "sparse-24-bitmask" \(/,
    ],
  ])("a format of compressed-tensors whose tensors are not known: %o", async (fields, message) => {
    const other = (model: Checkpoint) => {
      set(fields)(model);
      without("weight")(model);
    };
    await refuse("int8_channel", other, message);
  });

  test("experts in different formats", async () => {
    const model = await read("int8_channel");
    const [codes, scales] = ["weight", "weight_scale"].map((suffix) => model.weights.get(up(suffix)));
    model.weights.delete(up("weight_scale"));
    const scaleOf = scales?.data as Float32Array;
    const data = Float32Array.from(
      codes?.data as Int8Array,
      (code, i) => code * (scaleOf[Math.floor(i / 64)] as number),
    );
    model.weights.set(up("weight"), { dtype: "F32", shape: [32, 64], data });
    using directory = temporaryDirectory();
    await writeModel(directory.path, model);
    const load = (dtype?: "f32" | "bf16") =>
      MoeLayer.load(directory.path, { layer: 0, device: device(), ...(dtype && { dtype }) });
    await expectRejection(
      load(),
      "UNSUPPORTED_OPERATION",
      /experts\[2\]\.up: expected i8_channel_f32 as in the first expert, got f32; choose a dtype/,
    );
    await using file = await SafetensorsFile.open(join(root, "int8_channel", "expected.safetensors"));
    using x = device().tensor((await file.read("x")).data as Float32Array, file.info("x").shape);
    for (const [dtype, tolerance] of [
      ["f32", 1e-5],
      ["bf16", 1e-2],
    ] as const) {
      using layer = await load(dtype);
      expect(layer.description.formats.up).toBe(dtype);
      using y = layer.forward(x);
      expect(relativeError(await y.data(), (await file.read("output")).data as Float64Array)).toBeLessThan(tolerance);
    }
  });

  describe("stacked experts of bitsandbytes", () => {
    const stack = "model.layers.0.mlp.experts.gate_up_proj";
    const state = `${stack}.quant_state.bitsandbytes__nf4`;
    const withState =
      (fields: object) =>
      ({ weights }: Checkpoint) => {
        const given = JSON.parse(new TextDecoder().decode(weights.get(state)?.data as Uint8Array));
        const data = new TextEncoder().encode(JSON.stringify({ ...given, ...fields }));
        weights.set(state, { dtype: "U8", shape: [data.length], data });
      };

    test.each<[string, (model: Checkpoint) => unknown, RegExp]>([
      [
        "with inputs first, whose blocks no format has",
        withState({ shape: [3, 64, 32] }),
        /nf4": shape: expected \[3, 64, 64\], experts with outputs first, got \[3, 64, 32\]/,
      ],
      [
        "in blocks that belong to two experts",
        withState({ blocksize: 8192 }),
        /gate_up_proj": expected experts of whole blocks of 8192, got 64 x 64 codes/,
      ],
      [
        "of other sizes",
        ({ weights }) => weights.set(stack, { dtype: "U8", shape: [10, 1], data: new Uint8Array(10) }),
        /gate_up_proj": expected 6144 bytes for 3 x 64 x 64 codes of 4 bits/,
      ],
    ])("%s", async (_, change, message) => {
      await refuse("bnb_stacked", change, message);
    });
  });

  test("rotations of the weights alone, and in attention, change nothing", async () => {
    const model = await read("int4_packed");
    const apply = [
      { targets: ["re:.*down_proj$"], location: "weight_input" },
      { targets: "re:.*self_attn.o_proj$", location: "input" },
    ];
    set({ transform_config: { config_groups: { R: { type: "hadamard", apply } } } })(model);
    using directory = temporaryDirectory();
    await writeModel(directory.path, model);
    using layer = await MoeLayer.load(directory.path, { layer: 0, device: device() });
    expect(layer.description.formats.up).toBe("i4_g32_bf16");
  });

  test("version 2 of GPTQ has all zero points", async () => {
    const model = await read("gptq_v2");
    filled("qzeros", -1)(model);
    using directory = temporaryDirectory();
    await writeModel(directory.path, model);
    using layer = await MoeLayer.load(directory.path, { layer: 0, device: device() });
    expect(layer.description.formats.up).toBe("u4_g16_f16");
  });
});
