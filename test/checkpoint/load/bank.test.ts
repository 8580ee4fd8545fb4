import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { sumOf } from "../../support/banks.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { goldenFile } from "../../support/golden.js";
import { familyModelPath, readFamilyResults, stackExperts } from "../support/family_model.js";
import { goldenModel, type ModelFiles, writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** The outputs and the bytes read, for each of the banks of a model that begin at these experts. */
async function loadBanks(load: (options: object) => Promise<MoeLayer>, device: Device, begins: number[], x: Tokens) {
  using tokens = device.tensor(x.values, x.shape);
  const banks = begins.slice(0, -1).map((first, index) => ({ first, count: (begins[index + 1] as number) - first }));
  const results: { output: Float32Array; bytesRead: number; bytesTotal: number }[] = [];
  for (const bank of banks) {
    let progress = { bytesRead: 0, bytesTotal: 0 };
    const onProgress = (reported: typeof progress) => {
      progress = reported;
    };
    using layer = await load({ bank, onProgress });
    expect(layer.description.bank).toEqual(bank);
    using y = layer.forward(tokens);
    results.push({ output: (await y.data()) as Float32Array, ...progress });
  }
  return results;
}

interface Tokens {
  readonly values: Float32Array;
  readonly shape: readonly number[];
}

describe.each(deviceNames)("banks of a checkpoint on %s", (name) => {
  const device = openForTests(name);
  const [hidden, inner, experts] = [50, 37, 7]; // the sizes of mixtral_small
  const bytesOf = (count: number) => 4 * (count * 3 * inner * hidden + experts * hidden);

  test.each([
    ["each expert in tensors of its own", (model: ModelFiles) => model.weights],
    ["stacked", (model: ModelFiles) => stackExperts(model.weights)],
  ])("read only the bytes of their own experts: %s", async (_what, storage) => {
    const model = await goldenModel("mixtral_small");
    using directory = temporaryDirectory();
    await writeModel(directory.path, { ...model, weights: storage(model) });
    const { x, shape, expected } = model.layerFile;
    const load = (options: object) => MoeLayer.load(directory.path, { layer: 0, device: device(), ...options });
    const banks = await loadBanks(load, device(), [0, 3, 4, 7], { values: x, shape });
    expect(banks.map(({ bytesRead }) => bytesRead)).toEqual([bytesOf(3), bytesOf(1), bytesOf(3)]);
    expect(banks.map(({ bytesTotal }) => bytesTotal)).toEqual([bytesOf(3), bytesOf(1), bytesOf(3)]);
    const outputs = banks.map(({ output }) => output);
    expect(relativeError(sumOf(outputs), expected?.outputF64 as Float64Array)).toBeLessThanOrEqual(1e-5);
  });

  test.each(["qwen2_moe", "deepseek_v3", "gpt_oss", "hunyuan_v1_moe", "switch_transformers"])(
    "of family %s add up to what its authors' code computes",
    async (family) => {
      const { layer, x, shape, output } = await readFamilyResults(family);
      const load = (options: object) =>
        MoeLayer.load(familyModelPath(family), { layer, device: device(), dtype: "f32", ...options });
      using whole = await load({});
      const { numExperts } = whole.description;
      const banks = await loadBanks(load, device(), [0, 1, numExperts], { values: x, shape });
      expect(relativeError(sumOf(banks.map(({ output }) => output)), output)).toBeLessThanOrEqual(1e-4);
    },
  );

  test("of a layer file", async () => {
    const path = goldenFile("mixtral_small");
    let bytes = 0;
    using layer = await MoeLayer.load(path, {
      device: device(),
      bank: { first: 5, count: 2 },
      onProgress: ({ bytesRead }) => {
        bytes = bytesRead;
      },
    });
    expect(layer.description.bank).toEqual({ first: 5, count: 2 });
    expect(bytes).toBe(bytesOf(2));
  });
});

describe("the cache of banks", () => {
  const device = openForTests("cpu");

  test("has a file for each", async () => {
    using directory = temporaryDirectory();
    const model = await goldenModel("mixtral_small");
    await writeModel(directory.path, model);
    const load = async (options: object) => {
      using layer = await MoeLayer.load(directory.path, { layer: 0, device: device(), cache: true, ...options });
      return layer.cacheStatus?.state;
    };
    const banks = [{}, { bank: { first: 0, count: 3 } }, { bank: { first: 3, count: 4 } }];
    for (const state of ["written", "mapped"]) for (const bank of banks) expect(await load(bank)).toBe(state);
    const files = readdirSync(join(directory.path, ".moe-kernels")).sort();
    expect(files.map((file) => /^layer-0-(experts-\d-\d)?/.exec(file)?.[1])).toEqual([
      "experts-0-2",
      "experts-3-6",
      undefined,
    ]);
  });
});
