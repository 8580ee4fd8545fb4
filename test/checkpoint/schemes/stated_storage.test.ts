import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type LoadOptions, MoeLayer, openModel } from "../../../lib/index.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// Checkpoints whose configuration says something else than their tensors hold.

const root = join(import.meta.dirname, "..", "..", "golden", "quantised");

type Fields = Record<string, unknown>;

describe("a configuration that contradicts the tensors", () => {
  const device = openForTests("reference");

  /** A golden checkpoint with other fields in its configuration, in whichever file it is. */
  async function load(name: string, fields: Fields, options: Partial<LoadOptions> = {}): Promise<MoeLayer> {
    using directory = changed(name, fields);
    return await MoeLayer.load(directory.path, { layer: 0, device: device(), ...options });
  }

  const group = (weights: Fields) => ({ config_groups: { group_0: { targets: ["Linear"], weights } } });
  const weightConfig = (_type: string, _data: Fields) => ({ quant_type: { default: { _type, _version: 2, _data } } });
  const hqq = (nbits: number, group_size: number) => ({
    quant_config: { weight_quant_params: { nbits, group_size, axis: 1 } },
  });

  test.each<[string, Fields, string]>([
    [
      "gptq",
      { bits: 5 },
      "expected codes of 5 bits in groups of 32 columns, got codes of 4 bits in groups of 32 columns",
    ],
    ["gptq", { bits: 8 }, "of 8 bits in groups of 32 columns, got codes of 4 bits"],
    ["gptq", { group_size: 128 }, "in groups of 128 columns, got codes of 4 bits in groups of 32 columns"],
    ["gptq", { group_size: -1 }, "of 4 bits in whole rows, got codes of 4 bits in groups of 32 columns"],
    ["gptq_whole_rows", { group_size: 32 }, "in groups of 32 columns, got codes of 4 bits in whole rows"],
    ["gptq_own_file", { bits: 3 }, "codes of 3 bits in groups of 16 columns, got codes of 4 bits"],
    [
      "gptq",
      { bits: 3, dynamic: { "+:.*up.*": { bits: 2 } } },
      "of 3 bits in groups of 32 columns or codes of 2 bits in",
    ],
    ["awq", { bits: 3 }, "codes of 3 bits in groups of 32 columns, got codes of 4 bits in groups of 32 columns"],
    [
      "awq",
      { bits: null, w_bit: 4, group_size: null, q_group_size: 64 },
      "groups of 64 columns, got codes of 4 bits in",
    ],
    ["auto_round", { bits: 2 }, "codes of 2 bits in groups of 16 columns, got codes of 4 bits in groups of 16 columns"],
    ["auto_round", { group_size: 64 }, "in groups of 64 columns, got codes of 4 bits in groups of 16 columns"],
    [
      "int4_packed",
      group({ num_bits: 8, group_size: 32 }),
      "codes of 8 bits in groups of 32 columns, got codes of 4 bits",
    ],
    [
      "int4_packed",
      group({ num_bits: 4, group_size: 16 }),
      "in groups of 16 columns, got codes of 4 bits in groups of 32",
    ],
    ["int8_channel", group({ num_bits: 4, strategy: "channel" }), "codes of 4 bits in whole rows, got codes of 8 bits"],
    [
      "fp8_groups",
      group({ num_bits: 8, group_size: 32 }),
      "in groups of 32 columns, got codes of 8 bits in groups of 16",
    ],
    ["fp8_groups", group({ num_bits: 8, strategy: "channel" }), "in whole rows, got codes of 8 bits in groups of 16"],
    [
      "fp8_groups_as_blocks",
      { weight_block_size: [1, 16] },
      "groups of 16 columns, got codes of 8 bits in groups of 32",
    ],
    ["fp8_blocks", { weight_block_size: [64, 64] }, "expected blocks of 128 x 128 weights, got 64 x 64"],
    ["int8_blocks", { weight_block_size: [128, 64] }, "expected blocks of 128 x 128 weights, got 128 x 64"],
    [
      "mxfp4_packed",
      group({ num_bits: 4, group_size: 16 }),
      "in groups of 16 columns, got codes of 4 bits in groups of 32",
    ],
    [
      "mxfp4_plain",
      { global_quant_config: { weight: { dtype: "fp4", group_size: 64 } } },
      "groups of 64 columns, got codes of 4",
    ],
    ["mxfp4_plain", { global_quant_config: { weight: { dtype: "fp8_e4m3" } } }, "codes of 8 bits, got codes of 4 bits"],
    [
      "mxfp8",
      { quant_method: "mxfp8", weight_block_size: [1, 64] },
      "groups of 64 columns, got codes of 8 bits in groups of 32",
    ],
    [
      "nvfp4_packed",
      group({ num_bits: 4, group_size: 32 }),
      "in groups of 32 columns, got codes of 4 bits in groups of 16",
    ],
    [
      "nvfp4_modelopt",
      { quant_algo: "NVFP4", group_size: 32 },
      "groups of 32 columns, got codes of 4 bits in groups of 16",
    ],
    ["fp8_stacked_halves", { quant_algo: "W4A16_AWQ" }, "codes of 4 bits, got codes of 8 bits"],
    [
      "int4_modelopt",
      { quant_algo: "MIXED_PRECISION", quantized_layers: { a: { quant_algo: "FP8" } } },
      "of 8 bits, got codes of 4",
    ],
    ["int4_w4afp8", { group_size: 64 }, "groups of 64 columns, got codes of 4 bits in groups of 32 columns"],
    ["bnb_nf4", { load_in_4bit: false, load_in_8bit: true }, "codes of 8 bits, got codes of 4 bits"],
    ["bnb_int8", { load_in_4bit: true, load_in_8bit: false }, "codes of 4 bits, got codes of 8 bits"],
    ["bnb_nf4", { bnb_4bit_quant_type: "fp4" }, 'bnb_4bit_quant_type: expected "nf4", got "fp4"'],
    ["bnb_nested", { bnb_4bit_use_double_quant: false }, "bnb_4bit_use_double_quant: expected true, got false"],
    ["mlx_3_bits", { bits: 4 }, "codes of 4 bits in groups of 32 columns, got codes of 3 bits in groups of 32 columns"],
    ["mlx_8_bits", { group_size: 64 }, "in groups of 64 columns, got codes of 8 bits in groups of 32 columns"],
    ["hqq_4_bits", hqq(3, 64), "codes of 3 bits in groups of 64 columns, got codes of 4 bits in"],
    ["hqq_2_bits", hqq(2, 32), "in groups of 32 columns, got codes of 2 bits in groups of 16 columns"],
    [
      "hqq_1_bit",
      hqq(1.58, 32),
      "codes of 1.58 bits in groups of 32 columns, got codes of 1 bits in groups of 32 columns",
    ],
    ["torchao_int4", weightConfig("Int8WeightOnlyConfig", {}), "codes of 8 bits, got codes of 4 bits"],
    [
      "torchao_int4",
      weightConfig("Int4WeightOnlyConfig", { group_size: 64 }),
      "of 4 bits in groups of 64 columns, got",
    ],
    [
      "torchao_intx_3_bits",
      weightConfig("IntxWeightOnlyConfig", { weight_dtype: { _type: "torch.dtype", _data: "int4" } }),
      "codes of 4 bits, got codes of 3 bits",
    ],
  ])("%s with %j", async (name, fields, message) => {
    const escaped = message.replace(/[.[\]]/g, "\\$&").replace(", got", "(, as \\S+(: quantization\\S*)? says)?, got");
    await expectRejection(load(name, fields), "BAD_CHECKPOINT", new RegExp(escaped));
  });

  test("is none where it says the same of some modules", async () => {
    using layer = await load("gptq", { bits: 8, dynamic: { "+:.*experts.*": { bits: 4 } } });
    expect(layer.description.formats.up).toBe("u4_g32_f16");
  });

  test("is a method that nobody has, unless the caller says which it is like", async () => {
    const fields = { quant_method: "nosuchmethod" };
    const refused = /quant_method: expected one of fp8, .*gptq, .*, got "nosuchmethod" .*name it as quantMethod/;
    await expectRejection(load("gptq", fields), "BAD_CHECKPOINT", refused);
    using layer = await load("gptq", fields, { quantMethod: "gptq" });
    using usual = await load("gptq", {});
    const x = () =>
      device().tensor(
        Float32Array.from({ length: 64 }, (_, index) => Math.sin(index)),
        [1, 64],
      );
    const [a, b] = await Promise.all([layer, usual].map((one) => one.forward(x()).data()));
    expect(a).toEqual(b);
    const quantMethod = "nosuchmethod" as "gptq";
    await expectRejection(
      load("gptq", fields, { quantMethod }),
      "INVALID_ARGUMENT",
      /quantMethod: expected one of "fp8", /,
    );
  });

  test("is no longer none if the caller says another method", async () => {
    await expectRejection(
      load("gptq", { bits: 5 }, { quantMethod: "awq" }),
      "BAD_CHECKPOINT",
      /expected codes of 5 bits .*, got codes of 4 bits/,
    );
  });

  test("is a method without a name", async () => {
    await expectRejection(
      load("gptq", { quant_method: null, group_size: null }),
      "BAD_CHECKPOINT",
      /got no such field/,
    );
  });

  test("of openModel too", async () => {
    using directory = changed("gptq", { quant_method: "nosuchmethod" });
    await using unknown = await openModel(directory.path);
    await expectRejection(unknown.load(0, { device: device() }), "BAD_CHECKPOINT", /got "nosuchmethod"/);
    await using named = await openModel(directory.path, { quantMethod: "gptq" });
    using layer = await named.load(0, { device: device() });
    expect(layer.description.formats.up).toBe("u4_g32_f16");
  });
});

function changed(name: string, fields: Fields) {
  const directory = temporaryDirectory();
  cpSync(join(root, name), directory.path, { recursive: true });
  const own = readdirSync(directory.path).find((file) => /quant.*\.json$/.test(file)) ?? "config.json";
  const path = join(directory.path, own);
  const json = JSON.parse(readFileSync(path, "utf8"));
  Object.assign(json.quantization_config ?? json.quantization ?? json, fields);
  writeFileSync(path, JSON.stringify(json));
  return directory;
}
