import { readdirSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../../lib/checkpoint/safetensors/index.js";
import { combine, MoeError, MoeLayer, openDevice, openModel } from "../../../lib/index.js";
import { deviceNames, isas, openForTests, withIsa } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { needs } from "../../support/requirements.js";
import { modelDirectory, run } from "../support/cached_model.js";
import { familyModelPath, familyTokens, readFamilyResults } from "../support/family_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

describe("the cache of packed weights", () => {
  const device = openForTests("cpu");

  test.each(["mixtral_mid", "olmoe_mid", "qwen3_moe_norm_small"])("%s: the same bits as without", async (name) => {
    using directory = await modelDirectory(name);
    const { path, model } = directory;
    using plain = await MoeLayer.load(path, { layer: 0, device: device() });
    expect(plain.cacheStatus).toBeUndefined();
    expect(readdirSync(path)).not.toContain(".moe-kernels");
    for (const dtype of [undefined, "bf16", "f16"] as const) {
      const options = dtype === undefined ? {} : { dtype };
      const first = await run(path, model, device(), options);
      expect(first.status).toMatchObject({ state: "written", reason: expect.stringContaining("ENOENT") });
      const second = await run(path, model, device(), options);
      expect(second.status).toEqual({ state: "mapped", path: first.status.path, reason: "" });
      expect(second.result).toEqual(first.result);
      const { result } = await run(path, model, device(), { ...options, cache: join(path, "other") });
      expect(result).toEqual(first.result);
    }
    expect(readdirSync(join(path, ".moe-kernels"))).toHaveLength(3);
  });

  test("leaves errors of other work to who waits for it", async () => {
    using directory = await modelDirectory("olmoe_small");
    using rows = device().tensor([1, 2], [1, 2]);
    using rowOfSlot = device().tensor(Int32Array.of(7), [1, 1]);
    using weights = device().tensor([1], [1, 1]);
    for (const [cache, state] of [
      [true, "written"],
      [{ copy: true }, "copied"],
    ] as const) {
      combine(rows, rowOfSlot, weights).dispose();
      using layer = await MoeLayer.load(directory.path, { layer: 0, device: device(), cache });
      expect(layer.cacheStatus).toMatchObject({ state });
      await expectRejection(device().synchronize(), "ID_OUT_OF_RANGE", /^combine: rowOfSlot/);
    }
  });

  test("reads nothing from the checkpoint the second time", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const reported: number[] = [];
    const onProgress = ({ bytesRead }: { bytesRead: number }) => reported.push(bytesRead);
    await run(path, model, device(), { onProgress });
    expect(reported).toHaveLength(model.weights.size);
    await run(path, model, device(), { onProgress });
    expect(reported).toHaveLength(model.weights.size);
  });

  const uncached = ["gemma4", "nemotron_h_latent", "kimi_linear_latent"];
  test.each(uncached)("of %s is completed by the weights that it does not have", async (name) => {
    using folder = temporaryDirectory();
    const results = await readFamilyResults(name);
    const { x, options } = familyTokens(device(), results, "f32");
    const load = (more: object) =>
      MoeLayer.load(familyModelPath(name), { layer: results.layer, device: device(), cache: folder.path, ...more });
    using first = await load({});
    const expected = await first.forward(x, options).data();
    using mapped = await load({});
    using offloaded = await load({ offload: { slots: 2 } });
    using copied = await load({ cache: { folder: folder.path, copy: true } });
    expect([mapped, offloaded, copied].map((layer) => layer.cacheStatus?.state)).toEqual([
      "mapped",
      "mapped",
      "copied",
    ]);
    for (const layer of [mapped, offloaded, copied]) {
      expect(layer.description).toEqual(first.description);
      expect(await layer.forward(x, options).data()).toEqual(expected);
    }
  });

  test("is completed by the router of noise of a layer that is given", async () => {
    using folder = temporaryDirectory();
    const name = "mixtral";
    const { layer: index, x: values, shape } = await readFamilyResults(name);
    await using model = await openModel(familyModelPath(name));
    const block = "model.layers.{layer}.block_sparse_moe";
    const router = `${block}.gate.weight`;
    const [gate, up, down] = ["w1", "w3", "w2"].map((matrix) => `${block}.experts.{e}.${matrix}.weight`) as [
      string,
      string,
      string,
    ];
    const given = {
      config: { ...model.layer(index).config, noisy: {} },
      tensors: { router, noiseRouter: { name: router, factor: 4 }, experts: { gate, up, down } },
    };
    const options = { layer: index, device: device(), cache: folder.path, ...given };
    using written = await MoeLayer.load(familyModelPath(name), options);
    using mapped = await MoeLayer.load(familyModelPath(name), options);
    expect(mapped.cacheStatus?.state).toBe("mapped");
    const x = device().tensor(values, shape);
    const [first, second] = [written, mapped].map((layer) => layer.forward(x, { training: { seed: 1 } }));
    expect(await second?.data()).toEqual(await first?.data());
  });

  test("is a safetensors file whose parts begin at whole cache lines", async () => {
    using directory = await modelDirectory();
    const { status, result } = await run(directory.path, directory.model, device());
    await using file = await SafetensorsFile.open(status.path);
    expect([...file.tensors.keys()].sort()).toEqual(["checksums", "down", "gate_up", "router"]);
    for (const { byteOffset } of file.tensors.values()) expect(byteOffset % 64).toBe(0);
    const bytes = [...file.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(result).toContain(bytes - file.info("checksums").byteLength);
    expect([...file.tensors.values()][0]?.byteOffset).toBe(4096);
  });

  test("serves a layer after the file is deleted", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const { result, status } = await run(path, model, device());
    const { x: tokens, shape } = model.layerFile;
    using layer = await MoeLayer.load(path, { layer: 0, device: device(), cache: true });
    expect(layer.cacheStatus?.state).toBe("mapped");
    rmSync(status.path);
    rmSync(join(path, "model.safetensors"));
    using x = device().tensor(tokens, shape);
    using y = layer.forward(x);
    expect(await y.raw()).toEqual(result[0]);
  });

  test("is mapped as long as the layer, and no longer", needs("Linux"), async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const { status } = await run(path, model, device());
    const isMapped = () => readFileSync("/proc/self/maps", "utf8").includes(status.path);
    expect(isMapped()).toBe(false);
    const layer = await MoeLayer.load(path, { layer: 0, device: device(), cache: true });
    expect(isMapped()).toBe(true);
    layer.dispose();
    expect(isMapped()).toBe(false);
  });

  test("read into memory gives the same bits and does not need the file again", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const folder = join(path, "packed");
    const cache = { folder, copy: true };
    const first = await run(path, model, device(), { cache });
    expect(first.status).toMatchObject({ state: "written", path: expect.stringContaining(folder) });
    const second = await run(path, model, device(), { cache });
    expect(second.status).toEqual({ state: "copied", path: first.status.path, reason: "" });
    expect(second.result).toEqual(first.result);
    using layer = await MoeLayer.load(path, { layer: 0, device: device(), cache });
    truncateSync(first.status.path, 0);
    const { x: tokens, shape } = model.layerFile;
    using x = device().tensor(tokens, shape);
    using y = layer.forward(x);
    expect(await y.raw()).toEqual(first.result[0]);
  });

  test("serves several layers and devices at once, each as long as it needs", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const { result } = await run(path, model, device());
    using other = openDevice("cpu", { threads: 2 });
    const runs = await Promise.all([device(), other, device()].map((target) => run(path, model, target)));
    for (const { status, result: same } of runs) expect([status.state, same]).toEqual(["mapped", result]);
  });

  test("is one file for each layout, and instruction sets of one layout give the same bytes", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const files = new Map<string, Buffer>();
    for (const isa of isas) {
      using opened = withIsa(isa, () => openDevice("cpu"));
      for (const dtype of ["f32", "f16", "bf16"] as const) {
        const first = await run(path, model, opened, { dtype });
        const bytes = files.get(first.status.path);
        expect(first.status.state).toBe(bytes ? "mapped" : "written");
        const options = { dtype, cache: join(path, isa) };
        const own = await run(path, model, opened, options);
        expect(own.status.state).toBe("written");
        const written = readFileSync(own.status.path);
        if (bytes) expect(written.equals(bytes)).toBe(true);
        files.set(first.status.path, written);
        expect(await run(path, model, opened, options)).toMatchObject({
          status: { state: "mapped" },
          result: own.result,
        });
        expect(first.result).toEqual(own.result);
      }
    }
  });

  test.each([new Error("enough"), new MoeError("OUT_OF_MEMORY", "another load failed")])(
    "is not written, and the layer not returned, after a signal with %o",
    async (reason) => {
      using directory = await modelDirectory();
      const { path, model } = directory;
      const controller = new AbortController();
      const total = [...model.weights.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
      const onProgress = ({ bytesRead }: { bytesRead: number }) => {
        if (bytesRead === total) controller.abort(reason);
      };
      const options = { layer: 0, device: device(), cache: true, onProgress, signal: controller.signal };
      await expect(MoeLayer.load(path, options)).rejects.toBe(reason);
      expect(readdirSync(join(path, ".moe-kernels"))).toEqual([]);
    },
  );

  test("invalid options", async () => {
    using directory = await modelDirectory();
    const load = (options: object) => MoeLayer.load(directory.path, { layer: 0, device: device(), ...options });
    for (const cache of ["", 1, null]) {
      await expectRejection(
        load({ cache }),
        "INVALID_ARGUMENT",
        /^cache: expected true, false, the path of a folder or/,
      );
    }
    await expectRejection(load({ cache: { folder: "" } }), "INVALID_ARGUMENT", /^cache.folder: expected the path/);
    await expectRejection(load({ cache: { copy: 1 } }), "INVALID_ARGUMENT", /^cache.copy: expected a boolean/);
    await expectRejection(load({ cache: true, device: "cpu" }), "INVALID_ARGUMENT", /^device: expected a Device/);
    await expectRejection(
      load({ cache: true, dtype: "int9" }),
      "INVALID_ARGUMENT",
      /^dtype: expected f32, f16, bf16 or/,
    );
    const layer = await load({ cache: false });
    expect(layer.cacheStatus).toBeUndefined();
    layer.dispose();
  });
});

describe.each(deviceNames.filter((name) => name !== "cpu"))("a cache on %s", (name) => {
  const device = openForTests(name);

  test("is not used, and the layer says so", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const { status, result } = await run(path, model, device());
    expect(status).toEqual({ state: "unsupported", path: "", reason: expect.stringContaining(`device ${name} `) });
    expect(readdirSync(path)).not.toContain(".moe-kernels");
    using layer = await MoeLayer.load(path, { layer: 0, device: device() });
    expect(result[4]).toBe(layer.byteLength);
    expect(() => device().backend.mapFile(0, "", 1)).toThrow(/./);
  });
});
