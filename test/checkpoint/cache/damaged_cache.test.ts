import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../../lib/checkpoint/safetensors/index.js";
import { type CacheOptions, MoeLayer } from "../../../lib/index.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { needs } from "../../support/requirements.js";
import { familyModelPath, readFamilyResults } from "../support/family_model.js";
import { rawSafetensors } from "../support/raw_safetensors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const damaged = /: the packed weights .* do not match their checksum; the file has been removed/;

describe("a cache file that is damaged", () => {
  const device = openForTests("cpu");

  /** A model directory with a cache file, and what its layer computes. */
  async function cachedModel(name: string) {
    const directory = temporaryDirectory();
    cpSync(familyModelPath(name), directory.path, { recursive: true });
    const { layer: number, x: tokens, shape } = await readFamilyResults(name);
    const load = (options: CacheOptions = {}) =>
      MoeLayer.load(directory.path, { layer: number, device: device(), cache: options });
    const forward = async (layer: MoeLayer) => {
      using x = device().tensor(tokens, shape);
      using y = layer.forward(x);
      return await y.raw();
    };
    using layer = await load();
    const path = layer.cacheStatus?.path as string;
    const expected = await forward(layer);
    chmodSync(path, 0o644); // so that users other than root can damage it
    return { path, load, forward, expected, [Symbol.dispose]: () => directory[Symbol.dispose]() };
  }

  async function stateOf(load: (options?: CacheOptions) => Promise<MoeLayer>): Promise<string | undefined> {
    using layer = await load();
    return layer.cacheStatus?.state;
  }

  function flipBit(path: string, byte: number, bit: number): void {
    const bytes = readFileSync(path);
    bytes.writeUInt8(bytes.readUInt8(byte) ^ (1 << bit), byte);
    writeFileSync(path, bytes);
  }

  test.each(["gpt_oss", "deepseek_v3", "qwen2_moe"])(
    "by one bit anywhere: %s never computes with it, and the next load replaces the file",
    async (name) => {
      using model = await cachedModel(name);
      const { path, load, forward, expected } = model;
      const good = readFileSync(path);
      const places: [string, number, number][] = [];
      {
        await using file = await SafetensorsFile.open(path);
        for (const [part, { byteOffset, byteLength }] of file.tensors) {
          for (let at = 0; at < 12; at++) places.push([part, byteOffset, Math.floor((byteLength * at) / 12)]);
        }
      }
      const found = new Map<string, number>();
      for (const [index, [part, byteOffset, at]] of places.entries()) {
        flipBit(path, byteOffset + at, index % 8);
        using layer = await load();
        expect(layer.cacheStatus?.state).toBe("mapped");
        const result = await forward(layer).catch((error: unknown) => error as Error);
        if (result instanceof Error) {
          await expectRejection(Promise.reject(result), "BAD_CHECKPOINT", damaged);
          expect(existsSync(path)).toBe(false);
          await expectRejection(forward(layer), "BAD_CHECKPOINT", damaged);
          if (part !== "checksums") expect(result.message).toContain(`packed weights ${part}`);
          found.set(part, (found.get(part) ?? 0) + 1);
          expect(await stateOf(load)).toBe("written");
          expect(readFileSync(path).equals(good)).toBe(true);
          chmodSync(path, 0o644);
        } else {
          // Of experts that no token chose, and of the zeros that fill parts up.
          expect(result).toEqual(expected);
          writeFileSync(path, good);
        }
      }
      expect([...found.keys()].sort()).toEqual([...new Set(places.map(([part]) => part))].sort());
    },
  );

  test("is found at loading if the file is copied, and replaced", async () => {
    using model = await cachedModel("gpt_oss");
    const { path, load, forward, expected } = model;
    const good = readFileSync(path);
    await using file = await SafetensorsFile.open(path);
    for (const [part, { byteOffset, byteLength }] of file.tensors) {
      writeFileSync(path, good);
      flipBit(path, byteOffset + (part === "checksums" ? 3 : Math.floor(byteLength / 2)), 5);
      using layer = await load({ copy: true });
      expect(layer.cacheStatus).toMatchObject({ state: "written", reason: expect.stringMatching(/their checksums$/) });
      expect(await forward(layer)).toEqual(expected);
      expect(readFileSync(path).equals(good)).toBe(true);
      chmodSync(path, 0o644);
    }
  });

  test("is neither saved nor trained", async () => {
    using model = await cachedModel("gpt_oss");
    const { path, load } = model;
    const good = readFileSync(path);
    using directory = temporaryDirectory();
    await using file = await SafetensorsFile.open(path);
    const save = async (layer: MoeLayer) => await layer.save(`${directory.path}/saved.safetensors`);
    const uses: [string, (layer: MoeLayer) => Promise<unknown>][] = [
      ["down", save],
      ["gate_up", save],
      ["router", save],
      [
        "down",
        async (layer) => {
          using x = device().zeros([1, layer.description.hiddenSize], "f32");
          return await layer.forward(x, { save: true }).y.data();
        },
      ],
    ];
    for (const [part, use] of uses) {
      writeFileSync(path, good);
      const { byteOffset, byteLength } = file.info(part);
      flipBit(path, byteOffset + Math.floor(byteLength / 3), 5);
      using layer = await load();
      expect(layer.cacheStatus?.state).toBe("mapped");
      await expectRejection(use(layer), "BAD_CHECKPOINT", damaged);
      expect(existsSync(path)).toBe(false);
    }
  });

  test("so that its parts are at odd addresses is replaced", async () => {
    using model = await cachedModel("gpt_oss");
    const { path, load, forward, expected } = model;
    const good = readFileSync(path);
    const length = good.readBigUInt64LE();
    const header = good.subarray(8, 8 + Number(length));
    const longer = Buffer.alloc(8);
    longer.writeBigUInt64LE(length + 1n);
    writeFileSync(path, Buffer.concat([longer, header, Buffer.from(" "), good.subarray(8 + Number(length))]));
    using layer = await load();
    expect(layer.cacheStatus?.state).toBe("written");
    expect(await forward(layer)).toEqual(expected);
  });

  test("after the weights were checked is found: the file has another time", async () => {
    using model = await cachedModel("gpt_oss");
    const { path, load, forward, expected } = model;
    using layer = await load();
    expect(await forward(layer)).toEqual(expected);
    await using file = await SafetensorsFile.open(path);
    flipBit(path, file.info("router").byteOffset, 6);
    await expectRejection(forward(layer), "BAD_CHECKPOINT", damaged);
  });

  test("does not remove a new file of the same name", async () => {
    using model = await cachedModel("gpt_oss");
    const { path, load, forward } = model;
    await using file = await SafetensorsFile.open(path);
    flipBit(path, file.info("router").byteOffset, 6);
    using layer = await load();
    renameSync(path, `${path}.old`);
    expect(await stateOf(load)).toBe("written");
    await expectRejection(forward(layer), "BAD_CHECKPOINT", /checksum; another file has taken its place: load the/);
    expect(await stateOf(load)).toBe("mapped");
  });

  test.each([4096, 5000, 0])("by truncation to %d bytes while in use is an error", async (bytes) => {
    using model = await cachedModel("gpt_oss");
    const { path, load, forward, expected } = model;
    const message = /expected \d+ bytes of packed weights, got \d+: the file was truncated while a layer used it/;
    using layer = await load();
    using capture = layer.capture(1);
    expect(await forward(layer)).toEqual(expected);
    truncateSync(path, bytes);
    await expectRejection(forward(layer), "BAD_CHECKPOINT", message);
    capture.replay();
    await expectRejection(capture.y.data(), "BAD_CHECKPOINT", message);
    using fresh = await load();
    expect(fresh.cacheStatus?.state).toBe("written");
    expect(await forward(fresh)).toEqual(expected);
  });

  const headers: Record<string, (path: string) => unknown> = {
    "deep nesting": (path) => writeFileSync(path, rawSafetensors(`{"a":${"[".repeat(1e6)}`)),
    "a nested shape": (path) =>
      writeFileSync(path, rawSafetensors(`{"a":{"dtype":"U8","shape":${"[".repeat(5e4)}${"]".repeat(5e4)}}}`)),
    "a million tensors": (path) =>
      writeFileSync(path, rawSafetensors(`{${Array.from({ length: 1e6 }, (_, i) => `"${i}":0`).join(",")}}`)),
    "a length beyond the file": (path) => writeFileSync(path, Buffer.alloc(100, 0xff)),
    "a pipe": (path) => {
      rmSync(path);
      execFileSync("mkfifo", [path]);
    },
  };
  test.each(Object.entries(headers))("in its header, by %s, is replaced", async (_what, damage) => {
    using model = await cachedModel("gpt_oss");
    const { path, load, forward, expected } = model;
    damage(path);
    using layer = await load();
    expect(layer.cacheStatus).toMatchObject({ state: "written", path });
    expect(layer.cacheStatus?.reason.length).toBeLessThan(1000);
    expect(await forward(layer)).toEqual(expected);
    expect(await stateOf(load)).toBe("mapped");
  });

  test("is not assumed because of a property of Object.prototype", async () => {
    using model = await cachedModel("gpt_oss");
    const { load, forward, expected } = model;
    const prototype = Object.prototype as { polluted?: number };
    prototype.polluted = 1;
    const [state, result] = await (async () => {
      using layer = await load();
      return [layer.cacheStatus?.state, await forward(layer)];
    })().finally(() => delete prototype.polluted);
    expect(state).toBe("mapped");
    expect(result).toEqual(expected);
  });

  test("by mistake is less likely: the file is read-only", async () => {
    using model = await cachedModel("gpt_oss");
    const { path, load } = model;
    rmSync(path);
    expect(await stateOf(load)).toBe("written");
    expect(statSync(path).mode & 0o222).toBe(0);
  });

  test("is closed with its layer", needs("Linux"), async () => {
    using model = await cachedModel("gpt_oss");
    const before = readdirSync("/proc/self/fd").length;
    for (let round = 0; round < 5; round++) await stateOf(model.load);
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});
