import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { quantizeCheckpoint } from "../../../lib/checkpoint/quantize/quantize_checkpoint.js";
import { SafetensorsFile, type SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { MoeLayer, openDevice, openModel } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { rawGguf } from "../../support/gguf.js";
import { familyTokens, readFamilyModel, readFamilyResults } from "../support/family_model.js";
import { familyGguf } from "../support/gguf_family.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// Checkpoints with a table of the experts of each token id: the first layers of DeepSeek-V4.

const name = "deepseek_v4_hash";
const table = "layers.0.ffn.gate.tid2eid";

/** A model of DeepSeek-V4 whose first layer has a table, and whose second has none. */
async function bothLayers() {
  const { config, weights } = await readFamilyModel(name);
  const { weights: others } = await readFamilyModel("deepseek_v4");
  return { config, weights: new Map([...weights, ...others]) };
}

describe.each(deviceNames)("on %s", (deviceName) => {
  const device = openForTests(deviceName);

  test("a whole model loads, with a cache and without", async () => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, await bothLayers());
    await using model = await openModel(directory.path);
    expect([0, 1].map((layer) => model.layer(layer).config.hashRouting)).toEqual([{ vocabularySize: 11 }, undefined]);
    const weights = 8 * 18 + 9 * 3 * 10 * 18;
    expect((await model.memory(0, { dtype: "bf16" })).bytes).toBe(2 * weights + 4 * 11 * 3);
    for (const cache of [false, true, true]) {
      const layers = await model.loadAll({ device: device(), dtype: "f32", cache });
      for (const [family, index] of [
        [name, 0],
        ["deepseek_v4", 1],
      ] as const) {
        const results = await readFamilyResults(family);
        const { x, options } = familyTokens(device(), results, "f32");
        using layer = layers.get(index) as MoeLayer;
        using y = layer.forward(x, options);
        expect(relativeError(await y.data(), results.output)).toBeLessThanOrEqual(1e-5);
      }
    }
  });

  test("a layer of an unknown family is given the name of its table", async () => {
    using directory = temporaryDirectory();
    const { config, weights } = await readFamilyModel(name);
    await writeModel(directory.path, { config: { ...config, model_type: "other" }, weights });
    const results = await readFamilyResults(name);
    const expert = (prefix: string) => ({
      gate: `${prefix}.w1.weight`,
      up: `${prefix}.w3.weight`,
      down: `${prefix}.w2.weight`,
    });
    const given = {
      device: device(),
      dtype: "f32",
      layer: 0,
      config: {
        ...{ hiddenSize: 18, intermediateSize: 10, numExperts: 8, topK: 3, hashRouting: { vocabularySize: 11 } },
        ...{ scoring: "sqrt_softplus", normalize: true, scale: 1.5, sharedExpert: { intermediateSize: 10 } },
        ...{ activation: "swiglu_clamped", clamp: { alpha: 1, limit: 0.7, offset: 0 } },
      },
      tensors: {
        router: "layers.{layer}.ffn.gate.weight",
        expertTable: "layers.{layer}.ffn.gate.tid2eid",
        experts: expert("layers.{layer}.ffn.experts.{e}"),
        shared: expert("layers.{layer}.ffn.shared_experts"),
      },
    } as const;
    using layer = await MoeLayer.load(directory.path, given);
    const { x, options } = familyTokens(device(), results, "f32");
    using y = layer.forward(x, options);
    expect(relativeError(await y.data(), results.output)).toBeLessThanOrEqual(1e-5);
    const { expertTable, ...lacking } = given.tensors;
    const load = (tensors: object) => MoeLayer.load(directory.path, { ...given, tensors } as typeof given);
    await expectRejection(load(lacking), "INVALID_ARGUMENT", /expertTable: expected a tensor for hashRouting/);
    const turned = { ...lacking, expertTable: { name: expertTable, orient: "in_out" } };
    await expectRejection(load(turned), "INVALID_ARGUMENT", /expertTable\.orient cannot be combined with a table/);
  });
});

describe("tables that cannot be loaded", () => {
  const device = openForTests("reference");

  async function load(changed: SafetensorsInput | undefined): Promise<MoeLayer> {
    using directory = temporaryDirectory();
    const { config, weights } = await readFamilyModel(name);
    if (changed === undefined) weights.delete(table);
    else weights.set(table, changed);
    await writeModel(directory.path, { config, weights });
    return await MoeLayer.load(directory.path, { layer: 0, device: device(), dtype: "f32" });
  }

  const zeros = (rows: number, columns = 3) => ({ shape: [rows, columns], data: new Int32Array(rows * columns) });

  test.each<[string, SafetensorsInput | undefined, RegExp]>([
    ["none", undefined, /expected a tensor "layers\.0\.ffn\.gate\.tid2eid"/],
    [
      "floats",
      { dtype: "F32", shape: [11, 3], data: new Float32Array(33) },
      /tid2eid": expected dtype I32 or I64, got F32/,
    ],
    [
      "another vocabulary",
      { dtype: "I32", ...zeros(12) },
      /tid2eid": expected shape \[11, 3\] from the sizes in .*, got \[12, 3\]/,
    ],
    ["more experts", { dtype: "I32", ...zeros(11, 4) }, /expected shape \[11, 3\].*got \[11, 4\]/],
    [
      "an expert that there is not",
      { dtype: "I32", shape: [11, 3], data: new Int32Array(33).fill(8, 5, 6) },
      /tid2eid": expected integers from 0 to 7, got 8 at 5/,
    ],
    [
      "a negative expert in 64 bits",
      { dtype: "I64", shape: [11, 3], data: new BigInt64Array(33).fill(-1n, 32) },
      /tid2eid": expected integers from 0 to 7, got -1 at 32/,
    ],
    [
      "one that 32 bits would cut",
      { dtype: "I64", shape: [11, 3], data: new BigInt64Array(33).fill(2n ** 32n, 1, 2) },
      /expected integers from 0 to 7, got 4294967296 at 1/,
    ],
  ])("%s", async (_what, changed, message) => {
    await expectRejection(load(changed), "BAD_CHECKPOINT", message);
  });

  test("of GGUF files, where they do not go with the metadata", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model.gguf");
    const { metadata, tensors } = await familyGguf(name, 0);
    const write = (more: object, type = "I32") => {
      const all = tensors.map((tensor) => (/tid2eid/.test(tensor.name) ? { ...tensor, type: type as "I32" } : tensor));
      writeFileSync(path, rawGguf({ metadata: { ...metadata, ...more } as never, tensors: all }));
      return MoeLayer.load(path, { layer: 0, device: device() });
    };
    using whole = await write({});
    expect(whole.description.hashRouting).toEqual({ vocabularySize: 11 });
    await expectRejection(
      write({}, "F32"),
      "BAD_CHECKPOINT",
      /ffn_gate_tid2eid\.weight": expected dtype I32 or I64, got F32/,
    );
    const none = write({ "deepseek4.hash_layer_count": 0 });
    await expectRejection(
      none,
      "BAD_CHECKPOINT",
      /expected no other tensors .*, got "blk\.0\.ffn_gate_tid2eid\.weight"/,
    );
    const clamped = write({ "deepseek4.swiglu_clamp_shexp": [0.5, 0.5] });
    await expectRejection(
      clamped,
      "BAD_CHECKPOINT",
      /swiglu_clamp_shexp\[0\]: expected 0\.69.*, as swiglu_clamp_exp has, got 0\.5/,
    );
    const sigmoid = write({ "deepseek4.expert_gating_func": 2 });
    await expectRejection(sigmoid, "BAD_CHECKPOINT", /expert_gating_func: expected 4 \(sqrt_softplus\), got 2/);
  });
});

test("inspection names the table, and quantising copies it", async () => {
  using directory = temporaryDirectory();
  const source = join(directory.path, "source");
  mkdirSync(source);
  await writeModel(source, await bothLayers());
  await using model = await openModel(source);
  const { groups } = await model.inspect();
  expect(groups.map(({ layers }) => layers)).toEqual([[0], [1]]);
  expect(groups[0]?.storage?.missing).toEqual([]);
  expect(groups[0]?.storage?.problems).toEqual([]);
  const role = groups[0]?.storage?.roles.find((one) => one.role === "expertTable");
  expect(role).toMatchObject({ name: table, shape: [11, 3], formats: ["i32"] });
  const target = join(directory.path, "quantised");
  using device = openDevice("reference");
  await quantizeCheckpoint(source, {
    ...{ device, out: target, format: "int8", scale: "largest", existing: "refuse" },
    onProgress: () => {},
  });
  const shards = readdirSync(target).filter((file) => file.endsWith(".safetensors"));
  const copies = [];
  for (const shard of shards) {
    await using file = await SafetensorsFile.open(join(target, shard));
    if (file.tensors.has(table)) copies.push((await file.read(table)).data);
  }
  expect(copies).toEqual([((await bothLayers()).weights.get(table) as SafetensorsInput).data]);
  const results = await readFamilyResults(name);
  const { x, options } = familyTokens(device, results, "f32");
  using layer = await MoeLayer.load(target, { layer: 0, device });
  using y = layer.forward(x, options);
  expect(relativeError(await y.data(), results.output)).toBeLessThanOrEqual(0.05);
  expectError(() => layer.forward(x), "INVALID_ARGUMENT", /tokenIds: expected the ids/);
});
