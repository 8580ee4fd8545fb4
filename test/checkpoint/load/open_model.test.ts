import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { isMoeError, type ModelProgress, MoeLayer, openModel } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { expectError, expectRejection } from "../../support/errors.js";
import { goldenFile } from "../../support/golden.js";
import { familyModelPath, readFamilyResults } from "../support/family_model.js";
import { randomLayer, writeOne, writeSplit } from "../support/gguf_layer.js";
import { writeRandomModel } from "../support/random_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** Four layers, of which 1 and 3 have experts; the sizes fill whole panels. */
const config = {
  model_type: "qwen3_moe",
  num_hidden_layers: 4,
  decoder_sparse_step: 2,
  hidden_size: 256,
  moe_intermediate_size: 128,
  num_experts: 4,
  num_experts_per_tok: 2,
};
const [H, I, E] = [256, 128, 4];

function writeConfig(path: string, fields: object = config): void {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "config.json"), JSON.stringify(fields));
}

describe("a model directory", () => {
  const device = openForTests("cpu");

  test("tells its layers and their configuration", async () => {
    using directory = temporaryDirectory();
    writeConfig(directory.path);
    await using model = await openModel(directory.path);
    expect(model).toMatchObject({ path: directory.path, layerCount: 4, layersWithExperts: [1, 3], hasWeights: false });
    const expert = 3 * I * H;
    expect(model.layer(3)).toMatchObject({
      layer: 3,
      family: "qwen3_moe",
      config: { hiddenSize: H, intermediateSize: I, numExperts: E, topK: 2 },
      parameters: { expert, layer: E * expert + E * H, active: 2 * expert + E * H },
    });
    expectError(() => model.layer(2), "INVALID_ARGUMENT", /layer with experts \(1, 3\), got 2/);
    expectError(() => model.layer(4), "INVALID_ARGUMENT", /an integer from 0 to 3/);
    expect(inspect(model)).toContain("4 layers, 2 with experts");
  });

  test("without weights gives memory in a dtype, and refuses to load", async () => {
    using directory = temporaryDirectory();
    writeConfig(directory.path);
    await using model = await openModel(directory.path);
    await expectRejection(model.load(1, { device: device() }), "BAD_CHECKPOINT", /got neither$/);
    await expectRejection(model.memory(1, {}), "BAD_CHECKPOINT", /got neither$/);
    const { groups, hasWeights } = await model.inspect({ tokens: [1] });
    expect({ hasWeights, layers: groups[0]?.layers }).toEqual({ hasWeights: false, layers: [1, 3] });
  });

  test.each(["bf16", "f32", "int8"] as const)(
    "tells the memory of a layer in %s before it is loaded",
    async (dtype) => {
      using directory = temporaryDirectory();
      const path = join(directory.path, "model");
      await writeRandomModel(path, config, {});
      await using model = await openModel(path);
      const memory = await model.memory(1, { dtype });
      using layer = await model.load(1, { device: device(), dtype });
      await device().synchronize();
      expect(memory.bytes).toBeGreaterThan(0.95 * layer.byteLength);
      expect(memory.bytes).toBeLessThan(1.05 * layer.byteLength);
      expect(memory.fileBytes).toBe(2 * (E * 3 * I * H + E * H));
      if (dtype === "int8") return; // scales are part of it
      const bytes = dtype === "f32" ? 4 : 2;
      expect(memory).toMatchObject({ expertBytes: bytes * 3 * I * H, bytes: bytes * (E * 3 * I * H + E * H) });
      const bank = await model.memory(1, { dtype, bank: { first: 1, count: 2 } });
      expect(bank).toMatchObject({ bytes: bytes * (2 * 3 * I * H + E * H), fileBytes: 2 * (2 * 3 * I * H + E * H) });
    },
  );

  test("loads a layer as MoeLayer.load does, and lives longer than its model", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    await writeRandomModel(path, config, {});
    const model = await openModel(path);
    using layer = await model.load(3, { device: device() });
    await model.close();
    await model.close();
    using other = await MoeLayer.load(path, { layer: 3, device: device() });
    using x = device().tensor(new Random("x").normals(5 * H), [5, H], "bf16");
    using y = layer.forward(x);
    using expected = other.forward(x);
    expect(await y.data()).toEqual(await expected.data());
    await expectRejection(model.load(1, { device: device() }), "DISPOSED", /used after close/);
    await expectRejection(model.loadAll({ device: device() }), "DISPOSED", /used after close/);
  });

  test("opens shards also after the signal with which it was opened is aborted", async () => {
    const controller = new AbortController();
    const path = familyModelPath("mixtral_sharded_bf16");
    await using model = await openModel(path, { signal: controller.signal });
    controller.abort();
    const { layer } = await readFamilyResults("mixtral_sharded_bf16");
    using loaded = await model.load(layer, { device: device() });
    expect(loaded.description).toMatchObject({ weightDType: "bf16" });
  });

  test("takes shards, and names what is missing", async () => {
    await using model = await openModel(familyModelPath("mixtral_sharded_bf16"));
    const { layer } = await readFamilyResults("mixtral_sharded_bf16");
    const layers = await model.loadAll({ device: device(), layers: [layer] });
    expect([...layers.keys()]).toEqual([layer]);
    for (const one of layers.values()) one.dispose();
    const missing = /expected a tensor "model\.layers\.0\.block_sparse_moe\.gate\.weight", got none/;
    await expectRejection(model.loadAll({ device: device() }), "BAD_CHECKPOINT", missing);
  });
});

describe("loadAll", () => {
  const device = openForTests("cpu");
  const six = { ...config, num_hidden_layers: 6, decoder_sparse_step: 1, hidden_size: 32, moe_intermediate_size: 32 };

  test("loads all layers or some, some at a time, with progress in bytes", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    await writeRandomModel(path, six, {});
    await using model = await openModel(path);
    for (const concurrency of [1, 4]) {
      const reports: ModelProgress[] = [];
      const onProgress = (progress: ModelProgress) => reports.push(progress);
      const layers = await model.loadAll({ device: device(), layers: [5, 0, 2], concurrency, onProgress });
      expect([...layers.keys()]).toEqual([5, 0, 2]);
      const bytesTotal = 3 * 2 * (E * 3 * 32 * 32 + E * 32);
      expect(reports.at(-1)).toMatchObject({ layersLoaded: 3, layersTotal: 3, bytesRead: bytesTotal, bytesTotal });
      const read = reports.map(({ bytesRead }) => bytesRead);
      expect(read).toEqual(read.toSorted((a, b) => a - b));
      expect(reports.filter(({ layer }) => layer === 2).length).toBeGreaterThan(1);
      for (const layer of layers.values()) layer.dispose();
    }
    await expectRejection(model.loadAll({ device: device(), layers: [1, 1] }), "INVALID_ARGUMENT", /each layer once/);
    const out = /^layers\[1\]: expected an integer from 0 to 5, got 9$/;
    await expectRejection(model.loadAll({ device: device(), layers: [0, 9] }), "INVALID_ARGUMENT", out);
    await using file = await openModel(goldenFile("mixtral_small"));
    const alone = /^layers\[0\] cannot be combined with a layer file/;
    await expectRejection(file.loadAll({ device: device(), layers: [1] }), "INVALID_ARGUMENT", alone);
  });

  test("counts the bytes of layers that come from their caches", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    await writeRandomModel(path, six, {});
    await using model = await openModel(path);
    for (const state of ["written", "mapped"]) {
      const reports: ModelProgress[] = [];
      const layers = await model.loadAll({ device: device(), cache: true, onProgress: (one) => reports.push(one) });
      expect([...layers.values()].map((layer) => layer.cacheStatus?.state)).toEqual(Array(6).fill(state));
      expect(reports.at(-1)).toMatchObject({ layersLoaded: 6, bytesRead: reports.at(-1)?.bytesTotal });
      for (const layer of layers.values()) layer.dispose();
    }
  });

  test("stops at a signal and disposes of what was loaded", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    await writeRandomModel(path, six, {});
    await using model = await openModel(path);
    const controller = new AbortController();
    const reason = new Error("enough");
    let most = 0;
    const loading = model.loadAll({
      device: device(),
      concurrency: 1,
      signal: controller.signal,
      onProgress: ({ layersLoaded }) => {
        most = Math.max(most, layersLoaded);
        if (layersLoaded === 2) controller.abort(reason);
      },
    });
    await expect(loading).rejects.toBe(reason);
    expect(most).toBe(2);
  });

  test("stops in the middle of a layer at a signal of another class", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    await writeRandomModel(path, six, {});
    await using model = await openModel(path);
    const listeners = new Set<() => void>();
    const signal = {
      reason: new Error("enough"),
      throwIfAborted() {},
      addEventListener: (_: string, listener: () => void) => listeners.add(listener),
    };
    const read: number[] = [];
    const loading = model.loadAll({
      device: device(),
      concurrency: 1,
      signal: signal as never,
      onProgress: ({ bytesRead }) => {
        read.push(bytesRead);
        for (const listener of listeners) listener();
      },
    });
    await expect(loading).rejects.toBe(signal.reason);
    expect(read).toHaveLength(1);
  });

  test("throws what made a layer fail, not that the others were stopped", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    await writeRandomModel(path, six, { layer: {} });
    writeConfig(path, { ...six, num_hidden_layers: 8 });
    await using model = await openModel(path);
    const loading = model.loadAll({ device: device(), concurrency: 3 });
    await expectRejection(loading, "BAD_CHECKPOINT", /model\.layers\.6/);
  });

  test("throws whatever was thrown", async () => {
    await using model = await openModel(goldenFile("mixtral_small"));
    const onProgress = () => {
      throw undefined;
    };
    const thrown = await model.loadAll({ device: device(), onProgress }).then(
      () => "nothing",
      (error: unknown) => [error],
    );
    expect(thrown).toEqual([undefined]);
  });

  test("packed weights say which files they were made from, even if others take their place", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    const other = join(directory.path, "other");
    await writeRandomModel(path, six, {});
    await writeRandomModel(other, { ...six, num_hidden_layers: 7 }, {});
    await using model = await openModel(path);
    rmSync(join(path, "model.safetensors"));
    copyFileSync(join(other, "model.safetensors"), join(path, "model.safetensors"));
    const first = await model.load(0, { device: device(), cache: true });
    first.dispose();
    using second = await MoeLayer.load(path, { layer: 0, device: device(), cache: true });
    expect(second.cacheStatus).toMatchObject({
      state: "written",
      reason: expect.stringContaining("expected the same checkpoint"),
    });
  });
});

describe("other models", () => {
  const device = openForTests("cpu");

  test.each([
    ["a GGUF file", writeOne],
    ["a split GGUF model", writeSplit],
  ])("%s", async (_, write) => {
    using directory = temporaryDirectory();
    const path = write(directory.path, randomLayer(new Random("gguf"), {}).file);
    await using model = await openModel(path);
    expect(model).toMatchObject({ layerCount: 1, layersWithExperts: [0], hasWeights: true });
    expect(model.layer(0).family).toBe("qwen3_moe");
    expect((await model.inspect()).quantization).not.toBeUndefined();
    using layer = await model.load(0, { device: device() });
    using own = await MoeLayer.load(path, { layer: 0, device: device() });
    expect(layer.description).toEqual(own.description);
    await device().synchronize();
    const { bytes } = await model.memory(0);
    expect(bytes).toBeGreaterThan(0.9 * layer.byteLength);
    expect(bytes).toBeLessThan(1.1 * layer.byteLength);
  });

  test("a layer file", async () => {
    await using model = await openModel(goldenFile("mixtral_small"));
    expect(model).toMatchObject({ layerCount: 1, layersWithExperts: [0] });
    expect(model.layer(0).family).toBe("mixtral");
    expect(model.layer(undefined as never).layer).toBe(0);
    const layers = await model.loadAll({ device: device() });
    expect(layers.size).toBe(1);
    layers.get(0)?.dispose();
    const cached = model.load(0, { device: device(), cache: true });
    await expectRejection(cached, "INVALID_ARGUMENT", /cache cannot be combined with a layer file/);
  });

  test("something else", async () => {
    const error = await openModel(42 as unknown as string).catch((thrown) => thrown);
    expect(isMoeError(error, "INVALID_ARGUMENT")).toBe(true);
  });
});
