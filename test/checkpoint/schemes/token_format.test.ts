import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import type { LoadOptions } from "../../../lib/index.js";
import { MoeLayer } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const root = join(import.meta.dirname, "..", "..", "golden", "quantised");
const device = openForTests("cpu");

/** Loads a golden checkpoint, after a change of what its configuration says about quantisation. */
async function load(
  name: string,
  quantization: Readonly<Record<string, unknown>>,
  options: Omit<LoadOptions, "layer" | "device"> = { tokenFormat: "checkpoint" },
): Promise<MoeLayer> {
  const config = JSON.parse(readFileSync(join(root, name, "config.json"), "utf8"));
  config.quantization_config = { ...config.quantization_config, ...quantization };
  const weights = new Map<string, SafetensorsInput>();
  await using file = await SafetensorsFile.open(join(root, name, "model.safetensors"));
  for (const tensor of file.tensors.keys()) weights.set(tensor, await file.read(tensor));
  using directory = temporaryDirectory();
  await writeModel(directory.path, { config, weights });
  return await MoeLayer.load(directory.path, { layer: 0, device: device(), ...options });
}

/** A configuration of compressed-tensors whose groups have these inputs. */
const inputs = (...given: readonly unknown[]) => ({
  config_groups: Object.fromEntries(
    given.map((activations, index) => [
      `group_${index}`,
      { targets: ["Linear"], weights: { num_bits: 8, strategy: "channel" }, input_activations: activations },
    ]),
  ),
});

/** The same with weights in 4 bits. */
const ofGroups = (activations: object) => ({
  config_groups: { group_0: { weights: { num_bits: 4, group_size: 32 }, input_activations: activations } },
});

const int8 = { num_bits: 8, type: "int", strategy: "token", dynamic: true, symmetric: true };
const fp8 = { ...int8, type: "float" };

/** The same, the last group for attention only. */
function attention({ config_groups: groups }: ReturnType<typeof inputs>) {
  const [name, last] = Object.entries(groups).at(-1) as [string, object];
  return { config_groups: { ...groups, [name]: { ...last, targets: ["re:.*self_attn.*", "re:.*o_proj$"] } } };
}
const quark = (input: object | null, layers: object = {}) => ({
  quant_method: "quark",
  global_quant_config: { input_tensors: input },
  layer_quant_config: layers,
});
/** A configuration of torchao. */
const torchao = (name: string, fields: object = {}) => ({
  quant_method: "torchao",
  quant_type: { default: { _type: name, _version: 2, _data: fields } },
});
const autoRound = { quant_method: "auto-round", act_data_type: "int", act_dynamic: true, act_group_size: -1 };

describe('tokenFormat "checkpoint"', () => {
  test.each<[string, string, Record<string, unknown>, string]>([
    ["integers, a scale for each token", "int8_channel", inputs(int8), "int8"],
    [
      "integers as they are by default",
      "int8_channel",
      inputs({ num_bits: 8, strategy: "token", dynamic: true }),
      "int8",
    ],
    ["two groups of the same", "int8_channel", inputs(int8, { ...int8 }), "int8"],
    ["a scale of the tensor", "int8_channel", inputs({ ...int8, strategy: "tensor" }), "int8"],
    ["floats, a scale for each token", "fp8_channel", inputs(fp8), "fp8"],
    ["4-bit weights", "int4_packed", ofGroups(int8), "int8"],
    ["attention in another format", "int8_channel", attention(inputs(int8, fp8)), "int8"],
    ["nothing", "int8_channel", inputs(null), "none"],
    ["no inputs", "int8_channel", {}, "none"],
    ["blocks of DeepSeek-V3", "fp8_blocks", {}, "fp8"],
    ["blocks of DeepSeek-V3.1", "fp8_blocks", { scale_fmt: "ue8m0" }, "fp8_ue8m0"],
    ["fp8 without a scheme", "fp8_blocks", { activation_scheme: null }, "none"],
    ["another method", "gptq", {}, "none"],
    ["a weight-only algorithm of ModelOpt", "int4_modelopt", {}, "none"],
    ["SGLang's method of that name", "int8_channel", { quant_method: "w8a8_int8" }, "int8"],
    ["SGLang's blocks without a scheme", "int8_blocks", {}, "none"],
    ["weights of torchao alone", "int8_channel", torchao("Int8WeightOnlyConfig"), "none"],
    ["torchao without a class", "int8_channel", { quant_method: "torchao", quant_type: {} }, "none"],
    ["torchao's integers", "int8_channel", torchao("Int8DynamicActivationInt8WeightConfig"), "int8"],
    [
      "torchao's floats",
      "fp8_channel",
      torchao("Float8DynamicActivationFloat8WeightConfig", { activation_value_ub: null }),
      "fp8",
    ],
    ["FBGEMM without a limit", "fp8_channel", { quant_method: "fbgemm_fp8" }, "fp8"],
    ["Quark, floats", "fp8_channel", quark({ dtype: "fp8_e4m3", qscheme: "per_channel", is_dynamic: true }), "fp8"],
    ["Quark, integers", "int8_channel", quark({ dtype: "int8", qscheme: "per_channel", is_dynamic: true }), "int8"],
    ["Quark, attention alone", "fp8_channel", quark(null, { "*o_proj": { input_tensors: { dtype: "fp4" } } }), "none"],
    ["AutoRound", "int8_channel", { ...autoRound, act_bits: 8 }, "int8"],
    ["AutoRound, weights alone", "int8_channel", { ...autoRound, act_bits: 16 }, "none"],
  ])("follows the configuration: %s", async (_, name, quantization, expected) => {
    using layer = await load(name, quantization);
    expect(layer.description.tokenFormat).toBe(expected);
  });

  test("follows groups of 128 columns", async () => {
    const blocks = { num_bits: 8, type: "float", strategy: "block", block_structure: [128, 128] };
    for (const input of [
      { ...fp8, strategy: "group", group_size: 128 },
      { ...fp8, strategy: "block", block_structure: [1, 128] },
    ]) {
      const config_groups = { group_0: { targets: ["Linear"], weights: blocks, input_activations: input } };
      using layer = await load("fp8_one_block", { config_groups });
      expect(layer.description.tokenFormat).toBe("fp8");
    }
  });

  test.each<[string, string, Record<string, unknown>, RegExp]>([
    ["static scales", "fp8_tensor", {}, /activation_scheme: expected .*dynamic.*, got static; choose "int8"/],
    ["other scales", "fp8_blocks", { scale_fmt: "float" }, /scale_fmt: expected "ue8m0" or none, got float/],
    [
      "static inputs",
      "int8_channel",
      inputs({ ...int8, dynamic: false }),
      /input_activations: expected 8-bit integers/,
    ],
    ["4 bits", "int8_channel", inputs({ ...int8, num_bits: 4 }), /"num_bits":4/],
    ["offsets", "int8_channel", inputs({ ...int8, symmetric: false }), /"symmetric":false/],
    ["other groups", "int8_channel", inputs({ ...int8, strategy: "group", group_size: 64 }), /"group_size":64/],
    ["an unknown kind", "int8_channel", inputs({ ...int8, type: "complex" }), /"type":"complex"/],
    ["no object", "int8_channel", inputs("int8"), /got int8/],
    ["different groups", "int8_channel", inputs(int8, fp8), /expected the same for all experts/],
    [
      "groups of columns where products have none",
      "fp8_channel",
      inputs({ ...fp8, strategy: "group", group_size: 128 }),
      /e4m3_channel_bf16 weights: expected one for each token, got one for each 128 columns/,
    ],
    [
      "integers for 128 columns",
      "int8_blocks",
      { activation_scheme: "dynamic" },
      /i8_b128_f32 weights: expected one for each token, got one for each 128 columns/,
    ],
    [
      "a limit of FBGEMM",
      "fp8_channel",
      { quant_method: "fbgemm_fp8", activation_scale_ub: 1200 },
      /activation_scale_ub: expected .* without a limit, got 1200/,
    ],
    [
      "static inputs of Quark",
      "fp8_channel",
      quark({ dtype: "fp8_e4m3", qscheme: "per_tensor", is_dynamic: false }),
      /input_tensors: expected 8-bit/,
    ],
    [
      "different inputs of Quark",
      "fp8_channel",
      quark(null, { "*down_proj": { input_tensors: { dtype: "fp4" } } }),
      /input_tensors: expected the same for all experts/,
    ],
    ["groups of AutoRound", "int8_channel", { ...autoRound, act_bits: 8, act_group_size: 32 }, /"act_group_size":32/],
    ["an algorithm of ModelOpt", "int4_modelopt", { quant_algo: "W4A8_AWQ" }, /quant_algo: expected .*got W4A8_AWQ/],
    ["what w4afp8 does", "int4_w4afp8", {}, /quant_method: expected .*got w4afp8/],
    [
      "torchao's offsets",
      "int8_channel",
      torchao("Int8DynamicActivationInt8WeightConfig", {
        act_mapping_type: { _type: "MappingType", _data: "ASYMMETRIC" },
      }),
      /quant_type: expected 8-bit .*"ASYMMETRIC"/,
    ],
    [
      "torchao's limits",
      "fp8_channel",
      torchao("Float8DynamicActivationFloat8WeightConfig", { activation_value_ub: 1200 }),
      /quant_type: expected 8-bit .*"activation_value_ub":1200/,
    ],
    [
      "other classes of torchao",
      "int8_channel",
      torchao("Int8DynamicActivationIntxWeightConfig"),
      /quant_type: expected 8-bit .*"Int8DynamicActivationIntxWeightConfig"/,
    ],
    ["groups of 32 columns", "fp8_groups_as_blocks", {}, /weight_block_size: expected .*got \[1,32\]/],
  ])("refuses %s", async (_, name, quantization, message) => {
    await expectRejection(load(name, quantization), "UNSUPPORTED_OPERATION", message);
    using layer = await load(name, quantization, { tokenFormat: "none" });
    expect(layer.description.tokenFormat).toBe("none");
  });

  test("is none where nothing stays quantised, which another format refuses", async () => {
    using layer = await load("int8_channel", inputs(int8), { tokenFormat: "checkpoint", dtype: "bf16" });
    expect(layer.description.tokenFormat).toBe("none");
    await expectRejection(
      load("int8_channel", inputs(int8), { tokenFormat: "int8", dtype: "bf16" }),
      "INVALID_ARGUMENT",
      /tokenFormat: expected "none" with weights that are not quantised \(bf16\), got "int8"/,
    );
  });
});

test("weights from a cache file give the same results with every token format", async () => {
  using folder = temporaryDirectory();
  const hidden = 64;
  using x = device().tensor(new Random("cache").normals(5 * hidden), [5, hidden]);
  const directory = join(root, "int8_channel");
  const states: string[] = [];
  for (const tokenFormat of ["none", "int8", "fp8", "int8"] as const) {
    using layer = await MoeLayer.load(directory, { layer: 0, device: device(), cache: folder.path, tokenFormat });
    using fresh = await MoeLayer.load(directory, { layer: 0, device: device(), tokenFormat });
    expect(await layer.forward(x).data()).toEqual(await fresh.forward(x).data());
    expect(layer.description.tokenFormat).toBe(tokenFormat);
    states.push(layer.cacheStatus?.state ?? "");
  }
  // What is packed does not depend on it.
  expect(states).toEqual(["written", "mapped", "mapped", "mapped"]);
  expect(readdirSync(folder.path)).toHaveLength(1);
});
