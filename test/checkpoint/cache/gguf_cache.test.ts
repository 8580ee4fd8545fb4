import { chmodSync, existsSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../../lib/core/device/device.js";
import { type LoadOptions, MoeLayer } from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { type RandomLayer, randomLayer, writeOne, writeSplit } from "../support/gguf_layer.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const [hidden, tokens] = [256, 5];

function layerFile(seed = "cache", options: RandomLayer = {}) {
  return randomLayer(new Random(seed), { hidden, inner: 256, gate: "Q4_K", down: "Q6_K", ...options }).file;
}

/** Loads a layer with a cache, and what it computes. */
async function run(path: string, device: Device, options: Partial<LoadOptions> = {}) {
  using layer = await MoeLayer.load(path, { layer: 0, device, cache: true, ...options });
  using x = device.tensor(new Random("x").normals(tokens * hidden), [tokens, hidden]);
  using y = layer.forward(x);
  const status = layer.cacheStatus;
  if (status === undefined) throw new Error("expected a status of the cache");
  const { description, byteLength } = layer;
  return { status, result: [await y.raw(), description, byteLength] };
}

async function withoutCache(path: string, device: Device, options: Partial<LoadOptions> = {}) {
  using layer = await MoeLayer.load(path, { layer: 0, device, ...options });
  expect(layer.cacheStatus).toBeUndefined();
  using x = device.tensor(new Random("x").normals(tokens * hidden), [tokens, hidden]);
  using y = layer.forward(x);
  return [await y.raw(), layer.description, layer.byteLength];
}

describe("the cache of a GGUF file's packed weights", () => {
  const device = openForTests("cpu");

  test.each([
    ["one file", writeOne, {}],
    ["split files", writeSplit, {}],
    ["a shared expert in other types", writeOne, { shared: 512, sharedType: "Q8_0" }],
    ["NVFP4 with scales", writeOne, { gate: "NVFP4", down: "NVFP4", scaled: true }],
  ] as const)("%s: the same bits as without", async (_, write, options) => {
    using directory = temporaryDirectory();
    const path = write(directory.path, layerFile("cache", options));
    const names = readdirSync(directory.path);
    const plain = await withoutCache(path, device());
    expect(readdirSync(directory.path)).toEqual(names);
    for (const more of [{}, { dtype: "bf16" }, { bank: { first: 1, count: 2 } }] as const) {
      const expected = Object.keys(more).length === 0 ? plain : await withoutCache(path, device(), more);
      const reads: number[] = [];
      const onProgress = ({ bytesRead }: { bytesRead: number }) => reads.push(bytesRead);
      const first = await run(path, device(), { ...more, onProgress });
      expect(first.status).toMatchObject({ state: "written", reason: expect.stringContaining("ENOENT") });
      expect(dirname(first.status.path)).toBe(join(directory.path, ".moe-kernels", path.split("/").at(-1) as string));
      const read = reads.length;
      expect(read).toBeGreaterThan(0);
      const second = await run(path, device(), { ...more, onProgress });
      expect(second.status).toEqual({ state: "mapped", path: first.status.path, reason: "" });
      expect(reads).toHaveLength(read);
      const copied = await run(path, device(), { ...more, cache: { copy: true } });
      expect(copied.status).toEqual({ state: "copied", path: first.status.path, reason: "" });
      for (const { result } of [first, second, copied]) expect(result).toEqual(expected);
    }
  });

  test("has the experts that are not resident", async () => {
    using directory = temporaryDirectory();
    const path = writeSplit(directory.path, layerFile());
    const expected = await withoutCache(path, device());
    for (const slots of [1, 2]) {
      const { result } = await run(path, device(), { offload: { slots } });
      expect(result[0]).toEqual(expected[0]);
    }
    await expectRejection(
      MoeLayer.load(path, { layer: 0, device: device(), offload: { slots: 1 } }),
      "INVALID_ARGUMENT",
      /offload on cpu/,
    );
  });

  test("is rebuilt if any of the files has changed", async () => {
    using directory = temporaryDirectory();
    const path = writeSplit(directory.path, layerFile());
    const before = await run(path, device());
    for (const name of readdirSync(directory.path).filter((one) => one.endsWith(".gguf"))) {
      expect((await run(path, device())).status.state).toBe("mapped");
      utimesSync(join(directory.path, name), 1, 1);
      const again = await run(path, device());
      expect(again.status).toMatchObject({
        state: "written",
        reason: expect.stringMatching(/it was made from something else: expected the same checkpoint$/),
      });
      expect(again.result).toEqual(before.result);
    }
    writeSplit(directory.path, layerFile("other"));
    const other = await run(path, device());
    expect(other.status.state).toBe("written");
    expect(other.result[0]).not.toEqual(before.result[0]);
    expect(other.result).toEqual(await withoutCache(path, device()));
  });

  test("is rebuilt for another configuration, of a file of the same size and time", async () => {
    using directory = temporaryDirectory();
    const file = layerFile();
    const path = writeOne(directory.path, file);
    utimesSync(path, 1, 1);
    await run(path, device());
    writeOne(directory.path, { ...file, metadata: { ...file.metadata, "qwen3moe.expert_used_count": 1 } });
    utimesSync(path, 1, 1);
    const { status, result } = await run(path, device());
    expect(status).toMatchObject({
      state: "written",
      reason: expect.stringMatching(/expected the same configuration$/),
    });
    expect(result[1]).toMatchObject({ topK: 1 });
  });

  test("of several files in one folder are apart, and stay as they are if others change", async () => {
    using directory = temporaryDirectory();
    const one = writeOne(directory.path, layerFile("one"), "one.gguf");
    const two = writeOne(directory.path, layerFile("two"), "two.gguf");
    const shared = join(directory.path, "shared");
    for (const cache of [true, shared]) {
      const written = [await run(one, device(), { cache }), await run(two, device(), { cache })];
      expect(written.map(({ status }) => status.state)).toEqual(["written", "written"]);
      expect(new Set(written.map(({ status }) => status.path)).size).toBe(2);
      utimesSync(two, 1, cache === true ? 1 : 2);
      expect((await run(one, device(), { cache })).status.state).toBe("mapped");
      expect((await run(two, device(), { cache })).status.state).toBe("written");
    }
    expect(readdirSync(shared)).toHaveLength(2);
  });

  test.each([
    ["cut short", (path: string) => truncateSync(path, 5000)],
    ["another file", (path: string) => writeFileSync(path, "no cache")],
    ["empty", (path: string) => truncateSync(path, 0)],
  ])("is rebuilt if it is %s", async (_, damage) => {
    using directory = temporaryDirectory();
    const path = writeOne(directory.path, layerFile());
    const first = await run(path, device());
    chmodSync(first.status.path, 0o644);
    damage(first.status.path);
    const again = await run(path, device());
    expect(again.status.state).toBe("written");
    expect(again.status.reason.length).toBeGreaterThan(10);
    expect(again.result).toEqual(first.result);
    expect((await run(path, device())).status.state).toBe("mapped");
  });

  test("is never computed with if a bit of it has changed", async () => {
    using directory = temporaryDirectory();
    const path = writeOne(directory.path, layerFile());
    const first = await run(path, device());
    const cached = first.status.path;
    chmodSync(cached, 0o644);
    const bytes = readFileSync(cached);
    const offsets: number[] = [];
    {
      await using file = await SafetensorsFile.open(cached);
      for (const [name, { byteOffset, byteLength }] of file.tensors) {
        if (name !== "checksums") offsets.push(byteOffset + Math.floor(byteLength / 3));
      }
    }
    for (const offset of offsets) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(offset) ^ 4, offset);
      writeFileSync(cached, damaged);
      chmodSync(cached, 0o644);
      const copied = await run(path, device(), { cache: { copy: true } });
      expect(copied.status).toMatchObject({ state: "written", reason: expect.stringContaining("checksums") });
      expect(copied.result).toEqual(first.result);
      chmodSync(cached, 0o644);
      writeFileSync(cached, damaged);
      await expectRejection(
        run(path, device()),
        "BAD_CHECKPOINT",
        /do not match their checksum; the file has been removed/,
      );
      expect(existsSync(cached)).toBe(false);
      const again = await run(path, device());
      expect(again.status.state).toBe("written");
      expect(again.result).toEqual(first.result);
      chmodSync(cached, 0o644);
    }
    expect(offsets.length).toBeGreaterThan(2);
  });
});

describe.each(deviceNames.filter((name) => name !== "cpu"))("a cache of a GGUF file on %s", (name) => {
  const device = openForTests(name);

  test("is not used, and the layer says so", async () => {
    using directory = temporaryDirectory();
    const path = writeOne(directory.path, layerFile());
    const { status, result } = await run(path, device());
    expect(status).toEqual({ state: "unsupported", path: "", reason: expect.stringContaining(`device ${name} `) });
    expect(readdirSync(directory.path)).toEqual(["model.gguf"]);
    expect(result).toEqual(await withoutCache(path, device()));
  });
});
