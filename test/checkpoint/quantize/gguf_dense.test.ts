import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { GgufFile } from "../../../lib/checkpoint/gguf/index.js";
import { quantizeToGguf } from "../../../lib/checkpoint/quantize/gguf/quantize_to_gguf.js";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { fromBF16 } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deepseekGguf } from "../../examples/deepseek_gguf.js";
import { glmGguf } from "../../examples/glm_gguf.js";
import { withIsa } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const directory = temporaryDirectory();
const device = withIsa("portable", () => openDevice("cpu"));
afterAll(() => {
  device.dispose();
  directory[Symbol.dispose]();
});

const golden = (family: string) => join(import.meta.dirname, "..", "..", "golden", "language_models", family);
const { fresh } = directory;

function write(from: string, out: string) {
  const options = { device, format: "q8_0", scale: "largest", existing: "refuse", onProgress: () => {} } as const;
  return quantizeToGguf(from, { ...options, out });
}

type Weights = Map<string, SafetensorsInput>;

/** A golden model that is changed. */
async function changed(family: string, fields: object, change: (weights: Weights) => void = () => {}): Promise<string> {
  const weights: Weights = new Map();
  await using file = await SafetensorsFile.open(join(golden(family), "model.safetensors"));
  for (const name of file.tensors.keys()) weights.set(name, await file.read(name));
  change(weights);
  const config = JSON.parse(readFileSync(join(golden(family), "config.json"), "utf8"));
  const path = fresh();
  mkdirSync(path);
  await writeModel(path, { config: { ...config, ...fields }, weights });
  return path;
}

async function refused(fields: object, code: "BAD_CHECKPOINT" | "UNSUPPORTED_OPERATION", message: RegExp) {
  await expectRejection(write(await changed("kimi_k2", fields), fresh(".gguf")), code, message);
}

async function floats(file: GgufFile, name: string): Promise<Float32Array> {
  const { type } = file.info(name);
  const { buffer } = new Uint8Array(await file.read(name));
  if (type === "F32") return new Float32Array(buffer);
  expect(type).toBe("BF16");
  return Float32Array.from(new Uint16Array(buffer), fromBF16);
}

describe.each(["deepseek_v2", "kimi_k2"])("a GGUF file of %s", (family) => {
  test("has the metadata and tensors that llama.cpp's converter writes", async () => {
    const [out, other] = [fresh(".gguf"), fresh(".gguf")];
    await write(golden(family), out);
    writeFileSync(other, await deepseekGguf(golden(family), "stacks"));
    await using file = await GgufFile.open(out);
    await using expected = await GgufFile.open(other);
    const own = (metadata: GgufFile["metadata"]) =>
      Object.fromEntries([...metadata].filter(([key]) => key.startsWith("deepseek2.")));
    expect(own(file.metadata)).toEqual({
      ...own(expected.metadata),
      "deepseek2.expert_group_count": 1,
      "deepseek2.expert_group_used_count": 1,
    });
    await expectTensors(file, expected);
  });
});

/** The same tensors, those of experts quantised, but for layers that predict further tokens. */
async function expectTensors(file: GgufFile, expected: GgufFile): Promise<void> {
  const names = [...expected.tensors.keys()].filter((name) => !name.includes(".nextn."));
  expect([...file.tensors.keys()].toSorted()).toEqual(names.toSorted());
  for (const name of names) {
    expect([name, file.info(name).shape]).toEqual([name, expected.info(name).shape]);
    if (/_(exps|shexp)\./.test(name)) continue;
    expect([name, await floats(file, name)]).toEqual([name, await floats(expected, name)]);
  }
}

test("a GGUF file of glm4_moe has the metadata and tensors that llama.cpp's converter writes", async () => {
  const [out, other] = [fresh(".gguf"), fresh(".gguf")];
  await write(golden("glm4_moe"), out);
  writeFileSync(other, await glmGguf(golden("glm4_moe")));
  await using file = await GgufFile.open(out);
  await using expected = await GgufFile.open(other);
  const own = (metadata: GgufFile["metadata"]) =>
    Object.fromEntries([...metadata].filter(([key]) => key.startsWith("glm4moe.")));
  const { "glm4moe.nextn_predict_layers": predicted, ...others } = own(expected.metadata);
  expect(own(file.metadata)).toEqual({
    ...others,
    "glm4moe.block_count": Number(others["glm4moe.block_count"]) - Number(predicted),
    "glm4moe.expert_group_count": 1,
    "glm4moe.expert_group_used_count": 1,
  });
  await expectTensors(file, expected);
});

test("a GGUF file of glm4_moe_lite is one of DeepSeek's architecture, with the scores and factor of the model", async () => {
  const fields = {
    model_type: "glm4_moe_lite",
    rope_scaling: null,
    scoring_func: undefined,
    routed_scaling_factor: 1.8,
  };
  const rope_parameters = { rope_type: "default", rope_theta: 50000, partial_rotary_factor: 1 };
  const source = await changed("kimi_k2", { ...fields, mlp_layer_types: ["dense", "sparse"], rope_parameters });
  const [out, other] = [fresh(".gguf"), fresh(".gguf")];
  await write(source, out);
  writeFileSync(other, await deepseekGguf(golden("kimi_k2"), "stacks"));
  await using file = await GgufFile.open(out);
  await using expected = await GgufFile.open(other);
  expect(file.metadata.get("general.architecture")).toBe("deepseek2");
  const said = (key: string) => file.metadata.get(`deepseek2.${key}`);
  expect(said("expert_gating_func")).toBe(2);
  expect(said("expert_weights_scale")).toBe(Math.fround(1.8));
  expect(said("expert_weights_norm")).toBe(true);
  expect(said("leading_dense_block_count")).toBe(1);
  expect(said("rope.scaling.type")).toBeUndefined();
  await expectTensors(file, expected);
  using x = device.tensor(new Random("x").normals(5 * 32), [5, 32]);
  const result = async (path: string, options: object) => {
    using layer = await MoeLayer.load(path, { layer: 1, device, ...options });
    using y = layer.forward(x);
    return await y.data();
  };
  expect(await result(out, {})).toEqual(await result(source, { dtype: "q8_0" }));
});

test("layers that predict further tokens are left out", async () => {
  const source = await changed("kimi_k2", {}, (weights) => {
    weights.set("model.layers.2.enorm.weight", { dtype: "F32", shape: [32], data: new Float32Array(32) });
  });
  const out = fresh(".gguf");
  await write(source, out);
  await using file = await GgufFile.open(out);
  expect([...file.tensors.keys()].filter((name) => name.startsWith("blk.2"))).toEqual([]);
});

test("the first layers may be all with experts, and groups are in the metadata", async () => {
  const source = await changed("kimi_k2", { first_k_dense_replace: 0, n_group: 2, topk_group: 1 }, (weights) => {
    for (const [name, tensor] of [...weights]) {
      if (/^model\.layers\.0\.mlp\./.test(name)) weights.delete(name);
      if (/^model\.layers\.1\.mlp\./.test(name)) weights.set(name.replace("layers.1", "layers.0"), tensor);
    }
  });
  const out = fresh(".gguf");
  await write(source, out);
  await using file = await GgufFile.open(out);
  expect(file.metadata.get("deepseek2.leading_dense_block_count")).toBe(0);
  expect(file.metadata.get("deepseek2.expert_group_count")).toBe(2);
  expect(file.metadata.get("deepseek2.expert_group_used_count")).toBe(1);
  using x = device.tensor(new Random("x").normals(5 * 32), [5, 32]);
  const result = async (path: string, options: object) => {
    using layer = await MoeLayer.load(path, { layer: 0, device, ...options });
    using y = layer.forward(x);
    return await y.data();
  };
  expect(await result(out, {})).toEqual(await result(source, { dtype: "q8_0" }));
});

describe("refused are", () => {
  const yarn = { type: "yarn", factor: 40, original_max_position_embeddings: 64 };
  test.each([
    [
      "numbers of YaRN that differ",
      { rope_scaling: { ...yarn, mscale: 1, mscale_all_dim: 0.5 } },
      "BAD_CHECKPOINT",
      /mscale: expected the same as mscale_all_dim, which is 0\.5, got 1$/,
    ],
    [
      "a dense layer after others",
      { moe_layer_freq: [1, 0] },
      "UNSUPPORTED_OPERATION",
      /expected experts in every layer after the first that has them, as deepseek2 .*, got a dense layer 1$/,
    ],
    [
      "rows of other heads",
      { v_head_dim: 8 },
      "BAD_CHECKPOINT",
      /kv_b_proj\.weight": expected 64 rows, those of 4 heads, got shape \[56, 16\]$/,
    ],
    ["halves that turn together", { rope_interleave: false }, "BAD_CHECKPOINT", /rope_interleave: expected true/],
    ["biases of attention", { attention_bias: true }, "BAD_CHECKPOINT", /attention_bias: expected false/],
  ] as const)("%s", (_, fields, code, message) => refused(fields, code, message));
});
