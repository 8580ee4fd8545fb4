import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  ShardedCheckpoint,
  type StreamedInput,
  writeShardedSafetensors,
} from "../../../lib/checkpoint/safetensors/index.js";
import { expectRejection } from "../../support/errors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const tensors = (count: number): Map<string, StreamedInput> =>
  new Map(
    Array.from({ length: count }, (_, index) => {
      const data = Float32Array.from({ length: 8 }, (__, place) => index + place / 8);
      const lazy = index % 3 === 0 ? data : index % 3 === 1 ? () => data : async () => data;
      return [`layer.${index}`, { dtype: "F32", shape: [2, 4], data: lazy }];
    }),
  );

async function read(directory: string): Promise<Map<string, unknown>> {
  await using checkpoint = await ShardedCheckpoint.open(directory);
  const all = new Map<string, unknown>();
  for (const name of checkpoint.shards.keys()) all.set(name, (await (await checkpoint.fileOf(name)).read(name)).data);
  return all;
}

test.each([
  [1, 1e9, ["model.safetensors"]],
  [7, 64, ["model-00001-of-00004.safetensors", "model-00004-of-00004.safetensors"]],
  [3, 1, ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"]],
])("%i tensors in files of at most %i bytes", async (count, maximumShardBytes, some) => {
  using directory = temporaryDirectory();
  const done: number[] = [];
  const names = await writeShardedSafetensors(directory.path, tensors(count), {
    maximumShardBytes,
    metadata: { format: "pt" },
    onProgress: (bytes, total) => {
      expect(total).toBe(32 * count);
      done.push(bytes);
    },
  });
  expect(names).toEqual(expect.arrayContaining(some));
  const index = names.length > 1 ? ["model.safetensors.index.json"] : [];
  expect(readdirSync(directory.path).toSorted()).toEqual([...names, ...index].toSorted());
  expect(done.at(-1)).toBe(32 * count);
  expect(done).toEqual(done.toSorted((a, b) => a - b));
  const expected = [...tensors(count)].map(([name], place) => [
    name,
    Float32Array.from({ length: 8 }, (_, element) => place + element / 8),
  ]);
  expect([...(await read(directory.path))].toSorted()).toEqual(expected.toSorted());
  if (names.length > 1) {
    const { metadata } = JSON.parse(readFileSync(join(directory.path, index[0] as string), "utf8"));
    expect(metadata).toEqual({ total_size: 32 * count });
  }
});

test("data are asked for one after another, when those before are written", async () => {
  using directory = temporaryDirectory();
  let alive = 0;
  const lazy = (value: number): StreamedInput => ({
    dtype: "U8",
    shape: [4],
    data: async () => {
      expect(++alive).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      alive--;
      return Uint8Array.of(value, value, value, value);
    },
  });
  await writeShardedSafetensors(directory.path, { a: lazy(1), b: lazy(2), c: lazy(3) }, { maximumShardBytes: 8 });
  expect((await read(directory.path)).get("c")).toEqual(Uint8Array.of(3, 3, 3, 3));
});

describe("leaves nothing behind", () => {
  const attempt = async (last: StreamedInput["data"], options = {}) => {
    using directory = temporaryDirectory();
    const all = tensors(3).set("last", { dtype: "F32", shape: [2], data: last });
    const error = await writeShardedSafetensors(directory.path, all, { maximumShardBytes: 32, ...options }).catch(
      (thrown) => thrown,
    );
    expect(readdirSync(directory.path)).toEqual([]);
    return error;
  };

  test("if a tensor has another size or cannot be made, or at a signal", async () => {
    expect((await attempt(() => new Float32Array(3))).message).toMatch(
      /tensors\["last"\]\.data: expected 8 bytes for F32 \[2\], got Float32Array of 12/,
    );
    const reason = new Error("no data");
    const fails = () => {
      throw reason;
    };
    expect(await attempt(fails)).toBe(reason);
    const controller = new AbortController();
    const aborts = () => {
      controller.abort(reason);
      return new Float32Array(2);
    };
    expect(await attempt(aborts, { signal: controller.signal })).toBe(reason);
  });
});

test("refuses a directory with weights, none, and wrong arguments before anything is written", async () => {
  using directory = temporaryDirectory();
  const { path } = directory;
  const write = (given: unknown, options?: object) => writeShardedSafetensors(path, given as never, options);
  await expectRejection(
    write({ x: { dtype: "F32", shape: [2], data: 3 } }),
    "INVALID_ARGUMENT",
    /tensors\["x"\]\.data/,
  );
  await expectRejection(write({ x: { dtype: "F32", shape: [-2], data: () => {} } }), "INVALID_ARGUMENT", /shape\[0\]/);
  await expectRejection(write({}, { maximumShardBytes: 0 }), "INVALID_ARGUMENT", /maximumShardBytes/);
  await expectRejection(write({}, { maxShardBytes: 1 }), "INVALID_ARGUMENT", /did you mean "maximumShardBytes"/);
  expect(readdirSync(path)).toEqual([]);
  await expectRejection(
    writeShardedSafetensors(join(path, "none"), tensors(1)),
    "WRITE_FAILED",
    /none: expected a directory to write to/,
  );
  writeFileSync(join(path, "model.safetensors"), "");
  await expectRejection(
    write(tensors(1)),
    "INVALID_ARGUMENT",
    /directory: expected a directory without model\.safetensors/,
  );
});
