import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { GgufFile, SplitGguf } from "../../../lib/checkpoint/gguf/index.js";
import { expectRejection } from "../../support/errors.js";
import { type GgufInput, type MetadataValue, rawGguf, type TensorInput } from "../../support/gguf.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** Writes a file into a directory and returns its path. */
function write(directory: { readonly path: string }, name: string, input: GgufInput): string {
  const path = join(directory.path, name);
  writeFileSync(path, rawGguf(input));
  return path;
}

const counting = (length: number, first = 0) => Uint8Array.from({ length }, (_, index) => first + index);
const tensors: readonly TensorInput[] = [
  { name: "a", type: "Q8_0", shape: [2, 32], data: counting(68) },
  { name: "b", type: "F32", shape: [3], data: counting(12, 100) },
];

describe("GgufFile", () => {
  test("reads metadata, tensors and ranges", async () => {
    using directory = temporaryDirectory();
    const path = write(directory, "x.gguf", { metadata: { "general.architecture": "llama" }, tensors });
    await using file = await GgufFile.open(path);
    expect([file.path, file.version]).toEqual([path, 3]);
    expect([...file.metadata]).toEqual([["general.architecture", "llama"]]);
    expect(file.info("a")).toMatchObject({ type: "Q8_0", shape: [2, 32], byteLength: 68 });
    expect(await file.read("a")).toEqual(counting(68));
    expect(await file.read("b")).toEqual(counting(12, 100));
    const row = new Uint8Array(34);
    const reported: [number, number][] = [];
    await file.readRange("a", 34, row, { onProgress: (...progress) => reported.push(progress) });
    expect(row).toEqual(counting(34, 34));
    expect(reported).toEqual([[34, 34]]);
    await expectRejection(
      file.readRange("a", 35, row),
      "INVALID_ARGUMENT",
      /byteOffset: .* 34 bytes within the tensor's 68, got 35/,
    );
    await expectRejection(file.readRange("a", 0, [] as never), "INVALID_ARGUMENT", /target: expected a Uint8Array/);
    await expectRejection(
      file.read("c"),
      "BAD_CHECKPOINT",
      /x\.gguf: expected a tensor "c", got none of that name \(tensors: 2\)/,
    );
    await expectRejection(
      file.read("a", { signal: AbortSignal.abort() as never, onProgress: 1 as never }),
      "INVALID_ARGUMENT",
      /onProgress/,
    );
  });

  test("a header of several windows, without blocking the event loop", async () => {
    using directory = temporaryDirectory();
    const tokens = Array.from({ length: 100_000 }, (_, index) => `token ${index}`);
    const scores = Array.from(tokens, (_, index) => index);
    const many = Array.from(
      { length: 2_000 },
      (_, index) => ({ name: `blk.${index}`, type: "I8", shape: [32] }) as const,
    );
    const path = write(directory, "x.gguf", { metadata: { tokens, scores }, tensors: many });
    // Work in pieces looks at the clock after each, and lets the event loop run where time is up: here always.
    let milliseconds = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => (milliseconds += 1000));
    await using file = await GgufFile.open(path);
    const looks = clock.mock.calls.length;
    clock.mockRestore();
    expect(looks).toBeGreaterThan(100);
    const read = file.metadata.get("tokens") as readonly string[];
    expect([read.length, read.every((token, index) => token === tokens[index])]).toEqual([tokens.length, true]);
    expect(file.metadata.get("scores")).toEqual(Uint32Array.from(scores));
    expect([...file.tensors.keys()]).toEqual(many.map(({ name }) => name));
  });

  test("stops at a signal", async () => {
    using directory = temporaryDirectory();
    const path = write(directory, "x.gguf", { tensors });
    await expect(GgufFile.open(path, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
    await using file = await GgufFile.open(path);
    await expect(file.read("a", { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });

  test("a file that is truncated or closed after it was opened", async () => {
    using directory = temporaryDirectory();
    const path = write(directory, "x.gguf", { tensors });
    const file = await GgufFile.open(path);
    truncateSync(path, file.info("a").byteOffset + 4);
    await expectRejection(
      file.read("a"),
      "BAD_CHECKPOINT",
      /expected 68 bytes at \d+, got 4: the file was truncated after/,
    );
    await file.close();
    await file.close();
    await expectRejection(file.read("a"), "DISPOSED", /used after close/);
  });

  test("malformed files, and arguments that are no paths", async () => {
    using directory = temporaryDirectory();
    await expectRejection(
      GgufFile.open(write(directory, "x.gguf", { version: 1 })),
      "BAD_CHECKPOINT",
      /x\.gguf: expected GGUF version/,
    );
    await expectRejection(
      GgufFile.open(join(directory.path, "none")),
      "BAD_CHECKPOINT",
      /none: cannot be read: ENOENT/,
    );
    await expectRejection(GgufFile.open(3 as never), "INVALID_ARGUMENT", /path: expected/);
  });

  test.each<[string, (path: string) => unknown]>([
    ["a directory", (path) => mkdirSync(path)],
    ["a pipe", (path) => execFileSync("mkfifo", [path])],
    ["a device", (path) => symlinkSync("/dev/zero", path)],
  ])("%s in place of a file", async (kind, make) => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "x.gguf");
    make(path);
    await expectRejection(GgufFile.open(path), "BAD_CHECKPOINT", new RegExp(`expected a regular file, got ${kind}$`));
  });

  test("nothing is allocated for what a header only claims", async () => {
    using directory = temporaryDirectory();
    // A sparse file has room for every claim.
    const bytes = rawGguf({ metadata: { k: { type: "array", of: "u64", value: [] } } });
    bytes.writeBigUInt64LE(2n ** 22n, bytes.length - 8);
    const path = join(directory.path, "x.gguf");
    writeFileSync(path, bytes);
    truncateSync(path, 2 ** 40);
    await expectRejection(GgufFile.open(path), "BAD_CHECKPOINT", /trailing bytes/);
    bytes.writeBigUInt64LE(2n ** 62n, bytes.length - 8);
    writeFileSync(path, bytes);
    truncateSync(path, 2 ** 40);
    await expectRejection(GgufFile.open(path), "BAD_CHECKPOINT", /elements: expected at most 4194304/);
  });
});

describe("SplitGguf", () => {
  const parts = [[], [tensors[0] as TensorInput], [tensors[1] as TensorInput]];
  const splitMetadata = (index: number, more: Readonly<Record<string, MetadataValue>> = {}) => ({
    "split.no": { type: "u16", value: index } as const,
    "split.count": { type: "u16", value: parts.length } as const,
    "split.tensors.count": { type: "i32", value: tensors.length } as const,
    ...more,
  });
  const splitName = (index: number) => `m-0000${index + 1}-of-00003.gguf`;

  /** Writes a model of three files, the first without tensors; returns the path of the first. */
  function writeSplit(directory: { readonly path: string }, change: (index: number) => GgufInput = () => ({})): string {
    for (const [index, list] of parts.entries()) {
      const metadata = splitMetadata(index, index === 0 ? { "general.name": "m" } : {});
      write(directory, splitName(index), { metadata, tensors: list, ...change(index) });
    }
    return join(directory.path, splitName(0));
  }

  test("finds the tensors of all files", async () => {
    using directory = temporaryDirectory();
    await using model = await SplitGguf.open(writeSplit(directory));
    expect(model.files).toHaveLength(3);
    expect([...model.names]).toEqual(["a", "b"]);
    expect([model.has("a"), model.has("c")]).toEqual([true, false]);
    expect(model.metadata.get("general.name")).toBe("m");
    expect(model.fileOf("b").path).toBe(join(directory.path, splitName(2)));
    expect(await model.fileOf("b").read("b")).toEqual(counting(12, 100));
    expect(() => model.fileOf("c")).toThrow(
      /00001-of-00003\.gguf: expected a tensor "c", got none of that name \(tensors: 2\)/,
    );
  });

  test("opens a model in one file, under any name", async () => {
    using directory = temporaryDirectory();
    await using model = await SplitGguf.open(write(directory, "any name", { tensors }));
    expect([...model.names]).toEqual(["a", "b"]);
  });

  const wrong: [string, (index: number) => GgufInput, RegExp][] = [
    [
      "a file that is the wrong one",
      (index) => ({ metadata: splitMetadata(index === 1 ? 2 : index) }),
      /00002-of-00003\.gguf: split\.no: expected 1, got 2/,
    ],
    [
      "a file of another number of files",
      (index) => ({ metadata: splitMetadata(index, index === 2 ? { "split.count": 4 } : {}) }),
      /00003-of-00003\.gguf: split\.count: expected 3, got 4/,
    ],
    [
      "a file without numbers",
      (index) => (index === 2 ? { metadata: {} } : {}),
      /split\.no: expected 2, got undefined/,
    ],
    [
      "a tensor in two files",
      (index) => (index === 2 ? { tensors: [tensors[0] as TensorInput] } : {}),
      /00003-of-00003\.gguf: expected unique tensors, got "a", which .*00002-of-00003\.gguf has too/,
    ],
    [
      "too few tensors",
      (index) => ({ metadata: splitMetadata(index, { "split.tensors.count": 3 }) }),
      /split\.tensors\.count: expected 3 tensors, got 2/,
    ],
    [
      "more files than its name says",
      (index) => ({ metadata: splitMetadata(index, { "split.count": 5 }) }),
      /split\.count: expected a file named NAME-00001-of-00005\.gguf, got "m-00001/,
    ],
    [
      "a count that is no number",
      (index) => ({ metadata: splitMetadata(index, { "split.count": "3" }) }),
      /split\.count: expected a file named/,
    ],
  ];
  test.each(wrong)("%s", async (_what, change, message) => {
    using directory = temporaryDirectory();
    await expectRejection(SplitGguf.open(writeSplit(directory, change)), "BAD_CHECKPOINT", message);
  });

  test("closes what it has opened where another file cannot be opened or does not belong to it", async () => {
    using directory = temporaryDirectory();
    const close = vi.spyOn(GgufFile.prototype, "close");
    const closed = () => close.mock.contexts.map((file) => basename((file as GgufFile).path));
    const first = writeSplit(directory, (index) => (index === 2 ? { metadata: {} } : {}));
    await expect(SplitGguf.open(first)).rejects.toThrow(/split\.no/);
    expect(closed()).toEqual([0, 1, 2].map(splitName));
    close.mockClear();
    rmSync(join(directory.path, splitName(2)));
    await expect(SplitGguf.open(first)).rejects.toThrow(/ENOENT/);
    expect(closed()).toEqual([0, 1].map(splitName));
    close.mockRestore();
  });

  test("a file that is missing, and one that is not the first", async () => {
    using directory = temporaryDirectory();
    writeSplit(directory);
    const second = join(directory.path, splitName(1));
    await expectRejection(
      SplitGguf.open(second),
      "BAD_CHECKPOINT",
      /expected the first of the 3 files, m-00001-of-00003\.gguf/,
    );
    const alone = write(directory, "n-00001-of-00003.gguf", { metadata: splitMetadata(0) });
    await expectRejection(SplitGguf.open(alone), "BAD_CHECKPOINT", /n-00002-of-00003\.gguf: cannot be read: ENOENT/);
  });
});
