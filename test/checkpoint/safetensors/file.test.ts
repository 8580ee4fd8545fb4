import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  parseSafetensors,
  SafetensorsFile,
  type SafetensorsInput,
  serializeSafetensors,
  writeSafetensors,
  writeShardedSafetensors,
} from "../../../lib/checkpoint/safetensors/index.js";
import { chunkBytes } from "../../../lib/checkpoint/safetensors/regular_file.js";
import { rawSafetensors } from "../support/raw_safetensors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";
import { anyMetadata, anyTensors, bytesOf } from "../support/tensors.js";

const badCheckpoint = (message: string | RegExp) =>
  expect.objectContaining({ code: "BAD_CHECKPOINT", message: expect.stringMatching(message) });
const writeFailed = (message: RegExp) =>
  expect.objectContaining({ code: "WRITE_FAILED", message: expect.stringMatching(message) });
const failure = (code: string, message: string) =>
  expect.objectContaining({ name: "MoeError", code, message: expect.stringContaining(message) });

describe("round trips", () => {
  test("any tensors and metadata, through memory", () => {
    fc.assert(
      fc.property(anyTensors, anyMetadata, (tensors, metadata) => {
        const parsed = parseSafetensors(serializeSafetensors(tensors, { metadata }));
        expect({ ...parsed.metadata }).toEqual({ ...metadata });
        expect(parsed.tensors.size).toBe(tensors.size);
        for (const [name, { dtype, shape, data }] of tensors) {
          const read = parsed.tensors.get(name);
          expect([read?.dtype, read?.shape, read?.data.constructor]).toEqual([dtype, shape, data.constructor]);
          expect(bytesOf(read?.data as ArrayBufferView)).toEqual(bytesOf(data));
        }
      }),
    );
  });

  test("any tensors and metadata, through a file", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "any.safetensors");
    await fc.assert(
      fc.asyncProperty(anyTensors, anyMetadata, async (tensors, metadata) => {
        await writeSafetensors(path, tensors, { metadata });
        expect(new Uint8Array(readFileSync(path))).toEqual(new Uint8Array(serializeSafetensors(tensors, { metadata })));
        await using file = await SafetensorsFile.open(path);
        expect({ ...file.metadata }).toEqual({ ...metadata });
        expect([...file.tensors.keys()].sort()).toEqual([...tensors.keys()].sort());
        for (const [name, { dtype, shape, data }] of tensors) {
          const read = await file.read(name);
          expect([read.dtype, read.shape, read.data.constructor]).toEqual([dtype, shape, data.constructor]);
          expect(bytesOf(read.data)).toEqual(bytesOf(data));
        }
      }),
      { numRuns: 50 },
    );
  });

  test("the bytes in memory have a buffer of their own, which can be transferred", () => {
    const bytes = serializeSafetensors({ a: { dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) } });
    expect([bytes.constructor, bytes.byteOffset, bytes.buffer.byteLength]).toEqual([Uint8Array, 0, bytes.length]);
    const { buffer } = structuredClone(bytes, { transfer: [bytes.buffer as ArrayBuffer] });
    expect(parseSafetensors(new Uint8Array(buffer)).tensors.get("a")?.data).toEqual(Uint8Array.of(1, 2, 3));
  });

  test("a file in memory at an odd address", () => {
    const bytes = serializeSafetensors({ a: { dtype: "F64", shape: [2], data: Float64Array.of(1, 2) } });
    const shifted = new Uint8Array(bytes.byteLength + 1);
    shifted.set(bytes, 1);
    expect(parseSafetensors(shifted.subarray(1)).tensors.get("a")?.data).toEqual(Float64Array.of(1, 2));
  });
});

describe("the writer", () => {
  const tensors: Record<string, SafetensorsInput> = {
    z: { dtype: "U8", shape: [1], data: Uint8Array.of(1) },
    b: { dtype: "BF16", shape: [1], data: Uint16Array.of(2) },
    i: { dtype: "I32", shape: [], data: Int32Array.of(3) },
    y: { dtype: "F32", shape: [1, 1], data: Float32Array.of(4) },
    "\u{1f600}": { dtype: "F32", shape: [1], data: Float32Array.of(5) },
    "\uffee": { dtype: "F32", shape: [1], data: Float32Array.of(6) },
    d: { dtype: "F64", shape: [0], data: new Float64Array(0) },
  };

  test("sorts by dtype, largest alignment first, then by the name's UTF-8 bytes, and pads the header to 8 bytes", () => {
    const bytes = Buffer.from(serializeSafetensors(tensors, { metadata: { format: "pt" } }));
    const length = Number(bytes.readBigUInt64LE());
    expect(length % 8).toBe(0);
    expect(bytes.toString("utf8", 8, 8 + length).trimEnd()).toBe(
      '{"__metadata__":{"format":"pt"},' +
        '"d":{"dtype":"F64","shape":[0],"data_offsets":[0,0]},' +
        '"y":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},' +
        '"\uffee":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},' +
        '"\u{1f600}":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},' +
        '"i":{"dtype":"I32","shape":[],"data_offsets":[12,16]},' +
        '"b":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]},' +
        '"z":{"dtype":"U8","shape":[1],"data_offsets":[18,19]}}',
    );
  });

  test.each([8, 24, 64, 4096])("aligns the data to %d bytes if asked to", (alignment) => {
    for (const length of [0, 1, 7, 30, 4000, 5000]) {
      const bytes = serializeSafetensors(tensors, { metadata: { a: "x".repeat(length) }, alignment });
      const dataBytes = Object.values(tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
      expect((bytes.byteLength - dataBytes) % alignment).toBe(0);
      expect(parseSafetensors(bytes).tensors.get("y")?.data).toEqual(Float32Array.of(4));
    }
  });

  test.each([0, 4, 12, 4097, 2 ** 22, "8"])("rejects an alignment of %j", (alignment) => {
    const serialize = () => serializeSafetensors(tensors, { alignment: alignment as number });
    expect(serialize).toThrow(failure("INVALID_ARGUMENT", "alignment: expected"));
  });

  test("takes the bytes of any dtype as Uint8Array, at any address", () => {
    const data = new Uint8Array(5).subarray(1);
    data.set(bytesOf(Float32Array.of(1.5)));
    const { tensors: parsed } = parseSafetensors(serializeSafetensors({ a: { dtype: "F32", shape: [], data } }));
    expect(parsed.get("a")?.data).toEqual(Float32Array.of(1.5));
  });

  const one = { dtype: "F32", shape: [1], data: Float32Array.of(1) } as const;
  test.each<[string, unknown, unknown, string, string]>([
    ["no tensors", undefined, {}, "INVALID_ARGUMENT", "tensors: expected a Map or an object"],
    ["a tensor that is not an object", { a: 1 }, {}, "INVALID_ARGUMENT", 'tensors["a"]: expected an object'],
    [
      "an unknown dtype",
      { a: { ...one, dtype: "f32" } },
      {},
      "INVALID_ARGUMENT",
      'tensors["a"].dtype: expected one of "BOOL"',
    ],
    [
      "a bad shape",
      { a: { ...one, shape: [-1] } },
      {},
      "INVALID_ARGUMENT",
      'tensors["a"].shape[0]: expected an integer >= 0',
    ],
    ["half a byte", { a: { dtype: "F4", shape: [1], data: new Uint8Array(1) } }, {}, "INVALID_ARGUMENT", "whole bytes"],
    [
      "another array",
      { a: { ...one, data: Int32Array.of(1) } },
      {},
      "INVALID_ARGUMENT",
      "expected Float32Array, or the bytes",
    ],
    ["plain numbers", { a: { ...one, data: [1] } }, {}, "INVALID_ARGUMENT", "expected Float32Array, or the bytes"],
    [
      "another length",
      { a: { ...one, shape: [2] } },
      {},
      "SHAPE_MISMATCH",
      "expected 8 bytes for F32 [2], got Float32Array of 4",
    ],
    ["the name __metadata__", { __metadata__: one }, {}, "INVALID_ARGUMENT", 'got "__metadata__"'],
    ["half a character", { "\ud800": one }, {}, "INVALID_ARGUMENT", "well-formed Unicode"],
    ["metadata that is not a string", {}, { a: 1 }, "INVALID_ARGUMENT", 'metadata["a"]: expected a string'],
    ["metadata that is not an object", {}, null, "INVALID_ARGUMENT", "metadata: expected an object of strings"],
    ["a header beyond the cap", {}, { a: "x".repeat(1e8) }, "INVALID_ARGUMENT", "a header of 100000000 bytes"],
  ])("rejects %s", async (_what, input, metadata, code, message) => {
    const options = { metadata: metadata as Record<string, string> };
    expect(() => serializeSafetensors(input as Record<string, SafetensorsInput>, options)).toThrow(
      failure(code, message),
    );
  });

  test("leaves existing files untouched, and nothing else behind, when it fails", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    writeFileSync(path, "old");
    const abort = AbortSignal.abort(new Error("enough"));
    await expect(writeSafetensors(path, tensors, { signal: abort })).rejects.toThrow("enough");
    const stop = () => {
      throw new Error("stopped by the caller");
    };
    await expect(writeSafetensors(path, tensors, { onProgress: stop })).rejects.toThrow("stopped by the caller");
    expect(readdirSync(directory.path)).toEqual(["a.safetensors"]);
    expect(readFileSync(path, "utf8")).toBe("old");
    await writeSafetensors(path, tensors);
    expect(readdirSync(directory.path)).toEqual(["a.safetensors"]);
    expect(parseSafetensors(readFileSync(path)).tensors.size).toBe(7);
  });

  test("passes on what the caller's functions throw, even an error of the file system", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    const reason = Object.assign(new Error("EPIPE"), { code: "EPIPE", syscall: "write" });
    const fails = () => {
      throw reason;
    };
    await expect(writeSafetensors(path, tensors, { onProgress: fails })).rejects.toBe(reason);
    await expect(writeSafetensors(path, tensors, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const lazy = { a: { dtype: "U8", shape: [1], data: fails } } as const;
    await expect(writeShardedSafetensors(directory.path, lazy)).rejects.toBe(reason);
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test("says how to make the bits of f16 and bf16", async () => {
    const b = { dtype: "BF16", shape: [1], data: Float32Array.of(2) } as const;
    const message = 'tensors["b"].data: expected Uint16Array of the bits, as encodeHalves(values, "bf16") makes, or';
    await expect(writeSafetensors("b.safetensors", { b } as never)).rejects.toEqual(
      failure("INVALID_ARGUMENT", message),
    );
  });

  describe("refuses a buffer that is transferred before it is written:", () => {
    const transferred = failure(
      "INVALID_ARGUMENT",
      'tensors["b"].data: expected a buffer that stays in place until it is written, got one that was transferred',
    );
    const transfer = ({ buffer }: Uint8Array) => void structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
    const two = () => {
      const b = new Uint8Array(chunkBytes + 1);
      const a = new Uint8Array(2);
      return { b, inputs: { a: { dtype: "U8", shape: [2], data: a }, b: { dtype: "U8", shape: [b.length], data: b } } };
    };

    test("at once, and between two chunks", async () => {
      using directory = temporaryDirectory();
      const path = join(directory.path, "a.safetensors");
      const first = two();
      const writing = writeSafetensors(path, first.inputs as never);
      transfer(first.b);
      await expect(writing).rejects.toEqual(transferred);
      const second = two();
      const onProgress = (done: number) => {
        if (done > chunkBytes && second.b.length > 0) transfer(second.b);
      };
      await expect(writeSafetensors(path, second.inputs as never, { onProgress })).rejects.toEqual(transferred);
      expect(readdirSync(directory.path)).toEqual([]);
    });

    test("in a later shard", async () => {
      using directory = temporaryDirectory();
      const { b, inputs } = two();
      const writing = writeShardedSafetensors(directory.path, inputs as never, { maximumShardBytes: 2 });
      transfer(b);
      await expect(writing).rejects.toEqual(transferred);
      expect(readdirSync(directory.path)).toEqual([]);
    });
  });

  test("names the path that cannot be written", async () => {
    using directory = temporaryDirectory();
    const missing = join(directory.path, "missing", "a.safetensors");
    await expect(writeSafetensors(missing, tensors)).rejects.toEqual(
      writeFailed(/missing.*cannot be written: ENOENT: there is no folder \S*missing$/),
    );
    await expect(writeSafetensors("a\0b", tensors)).rejects.toEqual(writeFailed(/cannot be written/));
    const folder = join(directory.path, "folder");
    mkdirSync(folder);
    await expect(writeSafetensors(folder, tensors)).rejects.toEqual(writeFailed(/folder: cannot be written/));
    expect(readdirSync(directory.path)).toEqual(["folder"]);
    await expect(writeSafetensors(1 as unknown as string, tensors)).rejects.toEqual(
      failure("INVALID_ARGUMENT", "path"),
    );
  });
});

describe("the reader", () => {
  const rows = { dtype: "I16", shape: [3, 2], data: Int16Array.of(0, 1, 10, 11, 20, 21) } as const;

  test("reads ranges, and whole tensors into the caller's memory", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    await writeSafetensors(path, { rows });
    await using file = await SafetensorsFile.open(path);
    const { byteOffset, byteLength } = file.info("rows");
    expect(bytesOf(readFileSync(path).subarray(byteOffset, byteOffset + byteLength))).toEqual(bytesOf(rows.data));
    const row = new Int16Array(2);
    await file.readRange("rows", 4, bytesOf(row));
    expect(row).toEqual(Int16Array.of(10, 11));
    const whole = new Int16Array(new SharedArrayBuffer(12));
    await file.readInto("rows", bytesOf(whole));
    expect([...whole]).toEqual([...rows.data]);
    await file.readRange("rows", 12, new Uint8Array(0));

    const argument = (message: string) => failure("INVALID_ARGUMENT", message);
    const outside = argument("byteOffset: expected the start of a range of 4 bytes within the tensor's 12, got 9");
    await expect(file.readRange("rows", 9, new Uint8Array(4))).rejects.toEqual(outside);
    await expect(file.readRange("rows", -1, new Uint8Array(4))).rejects.toEqual(argument("got -1"));
    await expect(file.readRange("rows", 0.5, new Uint8Array(4))).rejects.toEqual(argument("got 0.5"));
    await expect(file.readRange("rows", 0, row as unknown as Uint8Array)).rejects.toEqual(argument("got Int16Array"));
    await expect(file.readInto("rows", new Uint8Array(11))).rejects.toEqual(argument("tensor's 12 bytes, got 11"));
    await expect(file.read("row")).rejects.toEqual(
      badCheckpoint(/expected a tensor "row", got none of that name \(tensors: 1\)/),
    );
  });

  test("refuses memory whose buffer is transferred while it is read: at once, and between two chunks", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "large.safetensors");
    const length = chunkBytes + 1;
    await writeSafetensors(path, { a: { dtype: "U8", shape: [length], data: new Uint8Array(length) } });
    await using file = await SafetensorsFile.open(path);
    const transferred = failure(
      "INVALID_ARGUMENT",
      "target: expected an array that keeps its buffer, got one whose buffer was transferred",
    );
    const transfer = ({ buffer }: Uint8Array) => void structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
    for (const size of [1, length]) {
      const target = new Uint8Array(size);
      const reading = file.readRange("a", 0, target);
      transfer(target);
      await expect(reading).rejects.toEqual(transferred);
    }
    for (const at of [chunkBytes, length]) {
      const target = new Uint8Array(length);
      const onProgress = (done: number) => done === at && transfer(target);
      await expect(file.readInto("a", target, { onProgress: onProgress as never })).rejects.toEqual(transferred);
    }
  });

  test("reports progress and stops at a signal, chunk by chunk", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "large.safetensors");
    const data = new Uint8Array(2 * chunkBytes + 5);
    for (let index = 0; index < data.length; index += 4093) data[index] = index;
    const written: number[] = [];
    await writeSafetensors(
      path,
      { a: { dtype: "U8", shape: [data.length], data } },
      { onProgress: (done) => written.push(done) },
    );
    expect(written.at(-1)).toBe(readFileSync(path).byteLength);
    await using file = await SafetensorsFile.open(path);
    const reported: [number, number][] = [];
    const { data: read } = await file.read("a", { onProgress: (...progress) => reported.push(progress) });
    expect(Buffer.compare(bytesOf(read), data)).toBe(0);
    expect(reported).toEqual([chunkBytes, 2 * chunkBytes, data.length].map((done) => [done, data.length]));

    const controller = new AbortController();
    const onProgress = () => controller.abort(new Error("enough"));
    await expect(file.read("a", { onProgress, signal: controller.signal })).rejects.toThrow("enough");
  });

  test("many reads at the same time", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "many.safetensors");
    const names = Array.from({ length: 100 }, (_, index) => String(index));
    await writeSafetensors(
      path,
      new Map(names.map((name) => [name, { ...rows, data: rows.data.map((value) => value + Number(name)) }])),
    );
    await using file = await SafetensorsFile.open(path);
    const all = await Promise.all(names.map((name) => file.read(name)));
    expect(all.map(({ data }) => data[0])).toEqual(names.map(Number));
  });

  test("a file truncated after it was opened", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    await writeSafetensors(path, { rows });
    await using file = await SafetensorsFile.open(path);
    truncateSync(path, file.info("rows").byteOffset + 4);
    await expect(file.read("rows")).rejects.toEqual(
      badCheckpoint(/expected 12 bytes at \d+, got 4: the file was truncated after it was opened/),
    );
  });

  test("a file that is closed while it is read", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    const data = new Uint8Array(chunkBytes + 1);
    await writeSafetensors(path, { a: { dtype: "U8", shape: [data.length], data } });
    const file = await SafetensorsFile.open(path);
    const reading = file.read("a", { onProgress: () => void file.close() });
    await expect(reading).rejects.toEqual(failure("DISPOSED", "used after close()"));
  });

  test("a closed file", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    await writeSafetensors(path, { rows });
    const file = await SafetensorsFile.open(path);
    await file.close();
    await file.close();
    await expect(file.read("rows")).rejects.toEqual(failure("DISPOSED", "used after close()"));
  });

  test("paths that cannot be read, and malformed files, named in the message", async () => {
    using directory = temporaryDirectory();
    await expect(SafetensorsFile.open(join(directory.path, "none"))).rejects.toEqual(
      badCheckpoint(/none: cannot be read: ENOENT/),
    );
    await expect(SafetensorsFile.open(directory.path)).rejects.toEqual(
      badCheckpoint(/cannot be read: expected a regular file, got a directory/),
    );
    await expect(SafetensorsFile.open("a\0b")).rejects.toEqual(badCheckpoint(/cannot be read/));
    await expect(SafetensorsFile.open(3 as unknown as string)).rejects.toEqual(failure("INVALID_ARGUMENT", "path"));
    const path = join(directory.path, "bad.safetensors");
    for (const bytes of [new Uint8Array(0), new Uint8Array(5), new Uint8Array(8), rawSafetensors({ a: 1 })]) {
      writeFileSync(path, bytes);
      await expect(SafetensorsFile.open(path)).rejects.toEqual(badCheckpoint(/bad\.safetensors: /));
    }
  });
});
