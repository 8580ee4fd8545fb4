import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type SafetensorsInput,
  ShardedCheckpoint,
  writeSafetensors,
} from "../../../lib/checkpoint/safetensors/index.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const scalar = (value: number): SafetensorsInput => ({ dtype: "F32", shape: [], data: Float32Array.of(value) });
const badCheckpoint = (message: RegExp) =>
  expect.objectContaining({ code: "BAD_CHECKPOINT", message: expect.stringMatching(message) });

function writeIndex(directory: string, weightMap: unknown): void {
  writeFileSync(
    join(directory, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
}

async function scalarOf(checkpoint: ShardedCheckpoint, name: string): Promise<unknown> {
  const file = await checkpoint.fileOf(name);
  return (await file.read(name)).data[0];
}

describe("a directory of shards", () => {
  test("opens each shard once, when one of its tensors is requested", async () => {
    using directory = temporaryDirectory();
    await writeSafetensors(join(directory.path, "1.safetensors"), { a: scalar(1), b: scalar(2) });
    await writeSafetensors(join(directory.path, "2.safetensors"), { c: scalar(3) });
    writeFileSync(join(directory.path, "3.safetensors"), "not a safetensors file");
    writeIndex(directory.path, { a: "1.safetensors", b: "1.safetensors", c: "2.safetensors", d: "3.safetensors" });
    const checkpoint = await ShardedCheckpoint.open(directory.path);
    expect([...checkpoint.shards.keys()]).toEqual(["a", "b", "c", "d"]);
    expect(checkpoint.has("c")).toBe(true);
    expect(checkpoint.has("toString")).toBe(false);
    expect(await Promise.all(["a", "b", "c"].map((name) => scalarOf(checkpoint, name)))).toEqual([1, 2, 3]);
    const [first, second] = await Promise.all([checkpoint.fileOf("a"), checkpoint.fileOf("b")]);
    expect(first).toBe(second);
    await expect(checkpoint.fileOf("d")).rejects.toEqual(badCheckpoint(/3\.safetensors: /));
    await writeSafetensors(join(directory.path, "3.safetensors"), { d: scalar(4) });
    expect(await scalarOf(checkpoint, "d")).toBe(4);
    await expect(checkpoint.fileOf("e")).rejects.toEqual(
      badCheckpoint(/index\.json: expected a tensor "e", got none of that name \(tensors: 4\)/),
    );
    await checkpoint.close();
    await checkpoint.close();
    await expect(first.read("a")).rejects.toEqual(expect.objectContaining({ code: "DISPOSED" }));
    await expect(checkpoint.fileOf("a")).rejects.toEqual(expect.objectContaining({ code: "DISPOSED" }));
  });

  test("a tensor that its shard does not have", async () => {
    using directory = temporaryDirectory();
    await writeSafetensors(join(directory.path, "1.safetensors"), { a: scalar(1) });
    writeIndex(directory.path, { a: "1.safetensors", b: "1.safetensors" });
    await using checkpoint = await ShardedCheckpoint.open(directory.path);
    await expect(checkpoint.fileOf("a")).rejects.toEqual(
      badCheckpoint(/1\.safetensors: tensor "b": expected in this shard/),
    );
  });

  test("a shard that does not exist", async () => {
    using directory = temporaryDirectory();
    writeIndex(directory.path, { a: "1.safetensors" });
    await expect(ShardedCheckpoint.open(directory.path)).rejects.toEqual(
      badCheckpoint(/weight_map: expected a file "1\.safetensors" in the directory, got none/),
    );
  });

  test.each([
    "../other.safetensors",
    "..",
    ".",
    "",
    "/etc/passwd",
    "sub/1.safetensors",
    "..\\other.safetensors",
    "C:other.safetensors",
    "C:\\other.safetensors",
    7,
    null,
  ])("a shard %j that is not a file in the directory", async (shard) => {
    using directory = temporaryDirectory();
    const inner = join(directory.path, "model");
    mkdirSync(inner);
    await writeSafetensors(join(directory.path, "other.safetensors"), { a: scalar(1) });
    writeIndex(inner, { a: shard });
    await expect(ShardedCheckpoint.open(inner)).rejects.toEqual(
      badCheckpoint(/weight_map\["a"\]: expected a file in the same directory/),
    );
  });

  test.each<[string, string, RegExp]>([
    ["not JSON", "{", /index\.json: expected valid UTF-8 JSON/],
    ["not an object", "[]", /index\.json: expected a JSON object, got an array/],
    ["no weight_map", "{}", /weight_map: expected an object of file names, got undefined/],
    ["a list", '{"weight_map":[]}', /weight_map: expected an object of file names, got array/],
    ["too many values", `{"weight_map":{"a":[${"0,".repeat(2 ** 20)}0]}}`, /expected at most 1048576 values/],
    ["a tensor twice", '{"weight_map":{"a":"1","a":"2"}}', /expected unique keys, got "a" twice/],
  ])("an index that is malformed: %s", async (_what, json, message) => {
    using directory = temporaryDirectory();
    writeFileSync(join(directory.path, "model.safetensors.index.json"), json);
    await expect(ShardedCheckpoint.open(directory.path)).rejects.toEqual(badCheckpoint(message));
  });
});

describe("a directory with one file", () => {
  test("takes precedence over an index", async () => {
    using directory = temporaryDirectory();
    await writeSafetensors(join(directory.path, "model.safetensors"), { a: scalar(5) });
    writeIndex(directory.path, { a: "missing.safetensors" });
    await using checkpoint = await ShardedCheckpoint.open(directory.path);
    expect(await scalarOf(checkpoint, "a")).toBe(5);
    await expect(checkpoint.fileOf("b")).rejects.toEqual(badCheckpoint(/model\.safetensors: expected a tensor "b"/));
  });

  test("that is malformed", async () => {
    using directory = temporaryDirectory();
    writeFileSync(join(directory.path, "model.safetensors"), "");
    await expect(ShardedCheckpoint.open(directory.path)).rejects.toEqual(badCheckpoint(/at least 8 bytes, got 0/));
  });
});

test("a directory without weights, and a missing directory", async () => {
  using directory = temporaryDirectory();
  await expect(ShardedCheckpoint.open(directory.path)).rejects.toEqual(badCheckpoint(/expected model\.safetensors or/));
  await expect(ShardedCheckpoint.open(join(directory.path, "none"))).rejects.toEqual(
    badCheckpoint(/none: expected model/),
  );
  await expect(ShardedCheckpoint.open(undefined as unknown as string)).rejects.toEqual(
    expect.objectContaining({ code: "INVALID_ARGUMENT" }),
  );
});
