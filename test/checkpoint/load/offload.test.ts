import { chmodSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import {
  type CacheStatus,
  type Device,
  MoeLayer,
  type OffloadOptions,
  type OffloadStats,
  openDevice,
} from "../../../lib/index.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { needs } from "../../support/requirements.js";
import { modelDirectory, run } from "../support/cached_model.js";
import { familyModelPath, readFamilyResults } from "../support/family_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const load = (path: string, device: Device, offload: OffloadOptions) =>
  MoeLayer.load(path, { layer: 0, device, cache: true, offload });

async function statsOf({ offload }: MoeLayer): Promise<OffloadStats> {
  if (offload === undefined) throw new Error("expected a layer with offload");
  return await offload.stats();
}

/** The layers' bits for the same random tokens, call after call. */
async function outputs(layers: readonly MoeLayer[], counts: readonly number[]): Promise<unknown[][]> {
  const random = new Random(7);
  const { hiddenSize } = (layers[0] as MoeLayer).description;
  const calls: unknown[][] = [];
  for (const tokens of counts) {
    const values = random.normals(tokens * hiddenSize);
    const bits = layers.map((layer) => {
      using x = layer.device.tensor(values, [tokens, hiddenSize], "f32");
      using y = layer.forward(x);
      return y.rawSync();
    });
    calls.push(bits);
  }
  return calls;
}

/** Bytes of a mapped file that are in the process's memory. */
function residentBytes(path: string): number {
  const maps = readFileSync("/proc/self/smaps", "utf8").split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/);
  const own = maps.filter((map) => map.split("\n")[0]?.endsWith(path));
  expect(own).toHaveLength(1);
  return own.reduce((sum, map) => sum + 1024 * Number(/^Rss:\s+(\d+) kB$/m.exec(map)?.[1]), 0);
}

describe("experts in a cache file on cpu", () => {
  const device = openForTests("cpu");
  const simt = openForTests("simt");
  const counts = [40, 1, 1, 3, 1, 40, 2];

  test.each(["mixtral_mid", "olmoe_mid"])("%s: the same bits as without", async (name) => {
    using directory = await modelDirectory(name);
    const { path } = directory;
    using whole = await MoeLayer.load(path, { layer: 0, device: device(), cache: true });
    for (const slots of [1, 2, 5]) {
      using layer = await load(path, device(), { slots, policy: "lru" });
      for (const [bits, expected] of await outputs([layer, whole], counts)) expect(bits).toEqual(expected);
    }
  });

  test.each([
    ["removed", (path: string) => rmSync(path), "mapped"],
    ["cut short", (path: string) => truncateSync(path, 100), "written"],
  ])("a file that is %s while a layer is loaded does not keep it from being loaded", async (_, harm, state) => {
    using directory = await modelDirectory();
    using whole = await MoeLayer.load(directory.path, { layer: 0, device: device(), cache: true });
    const { path } = whole.cacheStatus as CacheStatus;
    const { backend } = device();
    // On the native object itself, so that it is called as before.
    const mapFile = backend.mapFile.bind(backend);
    const mapped = vi.spyOn(backend, "mapFile").mockImplementationOnce((...args) => {
      const handle = mapFile(...args);
      chmodSync(path, 0o644);
      harm(path);
      return handle;
    });
    using layer = await load(directory.path, device(), { slots: 2 });
    mapped.mockRestore();
    expect(layer.cacheStatus?.state).toBe(state);
    using again = await MoeLayer.load(directory.path, { layer: 0, device: device() });
    for (const [bits, expected] of await outputs([layer, again], counts)) expect(bits).toEqual(expected);
  });

  async function expectSameBitsAsWithout(path: string, index: number): Promise<void> {
    using folder = temporaryDirectory();
    const options = { layer: index, device: device(), cache: folder.path };
    using whole = await MoeLayer.load(path, options);
    using layer = await MoeLayer.load(path, { ...options, offload: { slots: 1 } });
    for (const [bits, expected] of await outputs([layer, whole], counts)) expect(bits).toEqual(expected);
  }

  // Shared experts; a third projection; biases and clamped SwiGLU; weights on the input.
  test.each(["qwen2_moe", "openmoe", "gpt_oss", "llama4_scout"])("%s: the same bits as without", async (name) => {
    const { layer } = await readFamilyResults(name);
    await expectSameBitsAsWithout(familyModelPath(name), layer);
  });

  // Shared experts in formats of their own; input scales; input orders.
  test.each(["int4_shared_bf16", "gptq_shared_f16", "nvfp4_modelopt_awq", "gptq_act_order"])(
    "%s: the same bits as without",
    async (name) => await expectSameBitsAsWithout(join("test/golden/quantised", name), 0),
  );

  test("writes the file first where there is none, and counts as the other devices do", async () => {
    using directory = await modelDirectory("olmoe_mid");
    const { path } = directory;
    const offload = { slots: 12, pinned: [3] };
    using layer = await load(path, device(), offload);
    expect(layer.cacheStatus).toMatchObject({ state: "written", reason: expect.stringContaining("ENOENT") });
    using other = await MoeLayer.load(path, { layer: 0, device: simt(), offload });
    await outputs([layer, other], counts);
    layer.offload?.prefetch([1, 2, 3]);
    other.offload?.prefetch([1, 2, 3]);
    const bytes = { expertBytes: 0, loadedBytes: 0 };
    const stats = await statsOf(layer);
    expect({ ...stats, ...bytes }).toEqual({ ...(await statsOf(other)), ...bytes });
    expect(Math.min(stats.misses, stats.evictions, stats.prefetched)).toBeGreaterThan(0);
    expect(stats.resident).toContain(3);
    using mapped = await load(path, device(), offload);
    expect(mapped.cacheStatus).toMatchObject({ state: "mapped", reason: "" });
  });

  test("keeps the limit of resident bytes", needs("Linux"), async () => {
    using directory = await modelDirectory("olmoe_mid");
    const { path } = directory;
    const { status } = await run(path, directory.model, device());
    using layer = await load(path, device(), { slots: 6 });
    const { expertBytes, slots } = await statsOf(layer);
    using whole = await MoeLayer.load(path, { layer: 0, device: device() });
    const rest = whole.byteLength - expertBytes * whole.description.numExperts;
    expect(layer.byteLength).toBe(rest + slots * expertBytes);
    for (const tokens of counts) {
      await outputs([layer], [tokens]);
      expect((await statsOf(layer)).resident.length).toBeLessThanOrEqual(slots);
      // The system maps up to 64 KiB around a page that is read, on both sides of each of an expert's two matrices.
      expect(residentBytes(status.path)).toBeLessThan(layer.byteLength + slots * 4 * 65536);
    }
  });

  test("is refused without a mapped file", async () => {
    using directory = await modelDirectory();
    const { path } = directory;
    const offload = { slots: 2 };
    const options = { layer: 0, device: device(), offload };
    await expectRejection(
      MoeLayer.load(path, options),
      "INVALID_ARGUMENT",
      /^offload on cpu requires cache, .*: give cache: true, or a folder/,
    );
    const copied = MoeLayer.load(path, { ...options, cache: { copy: true } });
    await expectRejection(copied, "INVALID_ARGUMENT", /^offload on cpu cannot be combined with cache\.copy$/);
    const unwritable = MoeLayer.load(path, { ...options, cache: "/dev/null/folder" });
    await expectRejection(unwritable, "UNSUPPORTED_OPERATION", /^offload: the cache cannot be used: /);
  });

  test("reports a file that was cut short", async () => {
    using directory = await modelDirectory("olmoe_mid");
    const { path } = directory;
    const { status } = await run(path, directory.model, device());
    using layer = await load(path, device(), { slots: 4 });
    await outputs([layer], [2]);
    chmodSync(status.path, 0o644);
    truncateSync(status.path, 4096);
    const { hiddenSize } = layer.description;
    using x = device().tensor(new Float32Array(hiddenSize), [1, hiddenSize], "f32");
    layer.forward(x).dispose();
    await expectRejection(device().synchronize(), "BAD_CHECKPOINT", /truncated while a layer used it/);
    layer.offload?.prefetch([0]);
    await expectRejection(device().synchronize(), "BAD_CHECKPOINT", /truncated while a layer used it/);
  });

  test("captures only with a slot for every expert", async () => {
    using directory = await modelDirectory();
    const { path } = directory;
    using layer = await load(path, device(), { slots: 1 });
    expect(() => layer.capture(2)).toThrow(/^capture: expected a layer whose experts are all resident/);
    using full = await load(path, device(), { slots: 64 });
    using captured = full.capture(2);
    captured.x.write(new Float32Array(captured.x.size));
    captured.replay();
    expect(await captured.y.data()).toHaveLength(captured.x.size);
  });
});

test("experts of a checkpoint stay in the host's memory on simt", async () => {
  using device = openDevice("simt");
  using directory = await modelDirectory("mixtral_mid");
  using whole = await MoeLayer.load(directory.path, { layer: 0, device });
  using layer = await MoeLayer.load(directory.path, { layer: 0, device, offload: { slots: 2 } });
  for (const [bits, expected] of await outputs([layer, whole], [5, 1])) expect(bits).toEqual(expected);
  expect(layer.byteLength).toBeLessThan(whole.byteLength);
});
