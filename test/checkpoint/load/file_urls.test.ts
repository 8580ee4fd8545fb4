import { cpSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import { GgufFile, SplitGguf } from "../../../lib/checkpoint/gguf/index.js";
import {
  SafetensorsFile,
  ShardedCheckpoint,
  writeSafetensors,
  writeShardedSafetensors,
} from "../../../lib/checkpoint/safetensors/index.js";
import { MoeLayer, openModel, RouterStats, writeRouterReport } from "../../../lib/index.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { familyModelPath, readFamilyResults } from "../support/family_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** A folder whose name a URL writes in another way. */
function folder() {
  const directory = temporaryDirectory();
  const path = join(directory.path, "my models #1");
  mkdirSync(path);
  const url = (name = "") => pathToFileURL(join(path, name));
  return { path, url, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

describe("file: URLs in place of paths", () => {
  const device = openForTests("cpu");

  test("models, layer files and caches", async () => {
    using at = folder();
    cpSync(familyModelPath("mixtral"), at.path, { recursive: true });
    await using model = await openModel(at.url());
    const { layer: number } = await readFamilyResults("mixtral");
    expect(model.layersWithExperts).toContain(number);
    const cache = at.url("cache");
    using layer = await MoeLayer.load(at.url(), { layer: number, device: device(), cache });
    expect(layer.cacheStatus?.path.startsWith(join(at.path, "cache"))).toBe(true);
    using mapped = await MoeLayer.load(at.path, {
      layer: number,
      device: device(),
      cache: { folder: cache },
    });
    expect(mapped.cacheStatus?.state).toBe("mapped");
    await layer.save(at.url("layer.safetensors"));
    using saved = await MoeLayer.load(at.url("layer.safetensors"), { device: device() });
    expect(saved.description).toEqual(layer.description);
  });

  test("files of tensors", async () => {
    using at = folder();
    const x = { dtype: "U8", shape: [2], data: Uint8Array.of(1, 2) } as const;
    await writeSafetensors(at.url("x.safetensors"), { x });
    await using file = await SafetensorsFile.open(at.url("x.safetensors"));
    expect(file.path).toBe(join(at.path, "x.safetensors"));
    mkdirSync(join(at.path, "shards"));
    await writeShardedSafetensors(at.url("shards"), { x });
    await using checkpoint = await ShardedCheckpoint.open(at.url("shards"));
    expect(checkpoint.directory).toBe(join(at.path, "shards"));
  });

  test("GGUF files and reports", async () => {
    using at = folder();
    const missing = join(at.path, "none.gguf");
    for (const reader of [GgufFile, SplitGguf]) {
      const opening = reader.open(pathToFileURL(missing));
      await expect(opening).rejects.toMatchObject({ message: expect.stringContaining(missing) });
    }
    using stats = new RouterStats(device(), { numExperts: 2 });
    await writeRouterReport(await stats.read(), at.url("report.html"));
    expect(readFileSync(join(at.path, "report.html"), "utf8")).toMatch(/^<!doctype html>/i);
  });

  test("other schemes are refused by the parameter's name", async () => {
    using at = folder();
    const url = new URL("https://example.com/model.safetensors");
    await expectRejection(
      openModel(url),
      "INVALID_ARGUMENT",
      /^path: expected a path or a file: URL, got "https:.*model.safetensors"$/,
    );
    const options = { layer: 0, device: device() };
    await expectRejection(MoeLayer.load(at.path, { ...options, cache: url }), "INVALID_ARGUMENT", /^cache: /);
    const folders = { ...options, cache: { folder: url } };
    await expectRejection(MoeLayer.load(at.path, folders), "INVALID_ARGUMENT", /^cache\.folder: /);
    expect(existsSync(join(at.path, "cache"))).toBe(false);
  });
});
