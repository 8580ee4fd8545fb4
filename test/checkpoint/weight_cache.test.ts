import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import { type Device, type LoadOptions, MoeLayer, openDevice } from "../../lib/index.js";
import { LayerParts } from "../../lib/layer/layer_parts.js";
import { deviceNames, isas, openForTests, withIsa } from "../support/devices.js";
import { expectError, expectRejection } from "../support/errors.js";
import { exampleConfig, RandomLayer } from "../support/random_layer.js";
import { goldenModel, type Model, writeModel } from "./support/model_directory.js";
import { temporaryDirectory } from "./support/temporary_directory.js";

const windows = process.platform === "win32";

/** A model directory that is removed with all caches in it. */
async function modelDirectory(name = "olmoe_small") {
  const directory = temporaryDirectory();
  const model = await goldenModel(name);
  await writeModel(directory.path, model);
  return { model, path: directory.path, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

/** Loads a layer with a cache and returns the bits that it computes for the model's tokens. */
async function run(path: string, model: Model, device: Device, options: Partial<LoadOptions> = {}) {
  using layer = await MoeLayer.load(path, { layer: 0, device, cache: true, ...options });
  const { x: tokens, shape } = model.layerFile;
  using x = device.tensor(tokens, shape);
  using y = layer.forward(x);
  const { ids, weights } = layer.route(x);
  const status = layer.cacheStatus;
  if (status === undefined) throw new Error("expected a status of the cache");
  const { description, byteLength } = layer;
  return { status, result: [await y.raw(), await ids.raw(), await weights.raw(), description, byteLength] };
}

/** Runs `work` without superuser rights, which allow writing everywhere. */
async function asOrdinaryUser<T>(work: () => T | Promise<T>): Promise<T> {
  if (process.geteuid?.() !== 0) return await work();
  process.seteuid?.(65534);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

/** False in a container that has no other user. */
const canBeOrdinary = await asOrdinaryUser(() => !windows).catch(() => false);

describe.skipIf(windows)("the cache of packed weights", () => {
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

  test.runIf(process.platform === "linux")("is mapped as long as the layer, and no longer", async () => {
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

  const changes: Record<string, (directory: { path: string; model: Model }) => unknown> = {
    "a changed weight": async ({ path, model }) => {
      const [name, tensor] = [...model.weights][0] as [string, SafetensorsInput];
      const data = (tensor.data as Float32Array).slice();
      data[0] = 1;
      model.weights.set(name, { ...tensor, data });
      await writeModel(path, model);
    },
    "another time of a file": ({ path }) => utimesSync(join(path, "model.safetensors"), 1, 1),
    "another file": ({ path }) => writeSafetensors(join(path, "more.safetensors"), {}),
  };
  test.each(Object.entries(changes))("is rebuilt for %s", async (_what, change) => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    await run(path, model, device());
    await change(directory);
    using fresh = await MoeLayer.load(path, { layer: 0, device: device() });
    const { x: tokens, shape } = model.layerFile;
    using x = device().tensor(tokens, shape);
    using y = fresh.forward(x);
    const again = await run(path, model, device());
    expect(again.status).toMatchObject({
      state: "written",
      reason: expect.stringMatching(/another checkpoint$/),
    });
    expect(again.result[0]).toEqual(await y.raw());
    expect((await run(path, model, device())).status.state).toBe("mapped");
  });

  test("is rebuilt for another configuration", async () => {
    using directory = await modelDirectory("qwen3_moe_norm_small");
    const { path, model } = directory;
    await run(path, model, device());
    model.config.num_experts_per_tok = 1;
    writeFileSync(join(path, "config.json"), JSON.stringify(model.config));
    const { status, result } = await run(path, model, device());
    expect(status).toMatchObject({ state: "written", reason: expect.stringMatching(/another configuration$/) });
    expect(result[3]).toMatchObject({ topK: 1 });
  });

  test("is rebuilt for another version of the package", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const { status } = await run(path, model, device());
    await rewrite(status.path, { package: "moe-kernels 0.0.0" });
    expect((await run(path, model, device())).status).toMatchObject({
      state: "written",
      reason: expect.stringMatching(/another package$/),
    });
  });

  /** Rewrites a cache file with other metadata. */
  async function rewrite(path: string, changed: Record<string, string>): Promise<void> {
    const tensors = new Map();
    let metadata = {};
    {
      await using file = await SafetensorsFile.open(path);
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      metadata = { ...file.metadata, ...changed };
    }
    await writeSafetensors(path, tensors, { metadata });
  }

  const damages: Record<string, (path: string) => unknown> = {
    "an empty file": (path) => truncateSync(path, 0),
    "a file without its end": (path) => truncateSync(path, statSync(path).size - 1),
    "a file with trailing bytes": (path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(9)])),
    "a broken header": (path) => writeFileSync(path, readFileSync(path).fill(0x7b, 8, 60)),
    "another dtype than it says": (path) => rewrite(path, { storage: JSON.stringify({ router: "bf16" }) }),
    "a dtype that weights cannot have": (path) => rewrite(path, { storage: "f8" }),
    "no tensors": async (path) => {
      await using file = await SafetensorsFile.open(path);
      await writeSafetensors(path, {}, { metadata: file.metadata });
    },
    "a part too many": async (path) => {
      await using file = await SafetensorsFile.open(path);
      const tensors = new Map();
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
      tensors.set("more", { dtype: "U8", shape: [1], data: new Uint8Array(1) });
      await writeSafetensors(path, tensors, { metadata: file.metadata });
    },
  };
  test.each(Object.entries(damages))("is rebuilt instead of %s, and says why", async (_what, damage) => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const first = await run(path, model, device());
    await damage(first.status.path);
    const again = await run(path, model, device());
    expect(again.result).toEqual(first.result);
    expect(again.status.reason.length).toBeGreaterThan(10);
    expect(again.status.state).toBe("written");
    expect((await run(path, model, device())).status.state).toBe("mapped");
  });

  test("in a folder that cannot be created does not prevent loading, and says why", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const blocker = join(path, "blocker");
    writeFileSync(blocker, "");
    const { status, result } = await run(path, model, device(), { cache: blocker });
    expect(status).toMatchObject({
      state: "failed",
      reason: expect.stringMatching(/cannot be written: (ENOTDIR|EEXIST)/),
    });
    expect(result).toEqual((await run(path, model, device())).result);
  });

  test("that cannot be replaced leaves nothing behind", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const first = await run(path, model, device());
    rmSync(first.status.path);
    mkdirSync(join(first.status.path, "full"), { recursive: true });
    const { status, result } = await run(path, model, device());
    expect(status).toMatchObject({
      state: "failed",
      reason: expect.stringMatching(/cannot be read: expected a regular file.*; .*written: E/),
    });
    expect(result).toEqual(first.result);
    expect(readdirSync(join(path, ".moe-kernels"))).toHaveLength(1);
  });

  test.runIf(canBeOrdinary)("works in a read-only model directory, and says so", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    chmodSync(path, 0o555);
    const { status } = await asOrdinaryUser(() => run(path, model, device()));
    chmodSync(path, 0o755);
    expect(status).toMatchObject({ state: "failed", reason: expect.stringMatching(/cannot be written: EACCES/) });
  });

  test("of several models share a folder", async () => {
    using one = await modelDirectory("olmoe_small");
    using two = await modelDirectory("mixtral_small");
    using caches = temporaryDirectory();
    const cache = join(caches.path, "made", "when", "needed");
    for (const { path, model } of [one, two]) {
      expect((await run(path, model, device(), { cache })).status.state).toBe("written");
    }
    for (const { path, model } of [one, two]) {
      expect((await run(path, model, device(), { cache })).status.state).toBe("mapped");
    }
    expect(readdirSync(cache)).toHaveLength(2);
    expect(existsSync(join(one.path, ".moe-kernels"))).toBe(false);
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

  test("is not written, and the layer not returned, after a signal", async () => {
    using directory = await modelDirectory();
    const { path, model } = directory;
    const controller = new AbortController();
    const total = [...model.weights.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
    const onProgress = ({ bytesRead }: { bytesRead: number }) => {
      if (bytesRead === total) controller.abort(new Error("enough"));
    };
    const options = { layer: 0, device: device(), cache: true, onProgress, signal: controller.signal };
    await expect(MoeLayer.load(path, options)).rejects.toThrow("enough");
    expect(readdirSync(join(path, ".moe-kernels"))).toEqual([]);
  });

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
    await expectRejection(load({ cache: true, dtype: "i32" }), "INVALID_ARGUMENT", /^dtype: expected one of/);
    const layer = await load({ cache: false });
    expect(layer.cacheStatus).toBeUndefined();
    layer.dispose();
  });
});

describe.skipIf(windows)("a layer over stored parts", () => {
  const device = openForTests("cpu");

  const problem = {
    config: exampleConfig,
    tokens: 9,
    dtype: "f16",
    seed: 7,
  } as const;

  test("of every kind gives the same bits, and cannot be changed", () => {
    const sharedExpert = { intermediateSize: 40, gate: "softmax" } as const;
    const config = { ...exampleConfig, factor: true, sharedExpert };
    using random = new RandomLayer(device(), { ...problem, config, biases: true, selectionBias: true });
    using y = random.layer.forward(random.x);
    const expected = y.rawSync();
    const parts = random.parts.onDevice.handle.parts();
    const matrices = ["down", "factor", "gate_up", "router", "shared_gate"];
    const biases = ["down_bias", "gate_up_bias", "router_bias", "selection_bias", "shared_gate_bias"];
    expect(Object.keys(parts).sort()).toEqual([...matrices, ...biases].sort());
    const storedParts = new LayerParts(device(), random.layer.description, parts);
    using stored = new MoeLayer(storedParts);
    for (const part of Object.values(parts)) part.free();
    random.layer.dispose();
    using same = stored.forward(random.x);
    expect(same.rawSync()).toEqual(expected);
    const bias = device().zeros([config.numExperts], "f32");
    for (const change of [() => storedParts.router.weights.set(random.router), () => stored.setSelectionBias(bias)]) {
      change();
      expectError(() => device().synchronizeSync(), "UNSUPPORTED_OPERATION", /stored elsewhere and cannot be set/);
    }
  });

  test("needs exactly its parts, in the right sizes", () => {
    using random = new RandomLayer(device(), problem);
    device().synchronizeSync();
    const { description } = random.layer;
    const { router, gate_up, down } = random.parts.onDevice.handle.parts() as Record<string, never>;
    const over = (parts: object) => () => new LayerParts(device(), description, parts as never);
    expectError(over({ router, gate_up }), "INVALID_ARGUMENT", /^stored weights: expected down$/);
    expectError(over({ router, gate_up, down: router }), "INVALID_ARGUMENT", /expected \d+ bytes of down, got \d+$/);
    expectError(over({ router, gate_up, down, down_bias: router }), "INVALID_ARGUMENT", /bytes of down_bias, got/);
    expectError(
      over({ router, gate_up, down, more: router }),
      "INVALID_ARGUMENT",
      /expected only the parts of this layer/,
    );
  });

  test("a truncated file is not mapped", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    await writeSafetensors(path, { a: { dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) } });
    await using file = await SafetensorsFile.open(path);
    const { size } = statSync(path);
    const map = (bytes: number) => () => device().backend.mapFile(file.descriptor, path, bytes);
    for (const bytes of [0, size + 1, -1]) expectError(map(bytes), "INVALID_ARGUMENT", /expected a file of at least/);
    const mapped = map(size)();
    expect(new Uint8Array(mapped.readSync(false))).toEqual(new Uint8Array(readFileSync(path)));
    mapped.free();
  });
});

describe.each(deviceNames.filter((name) => name !== "cpu" || windows))("a cache on %s", (name) => {
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
