import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import {
  copyAtomically,
  writeAtomically,
  writeTextAtomically,
} from "../../../lib/checkpoint/safetensors/atomic_file.js";
import { writeSafetensors, writeShardedSafetensors } from "../../../lib/checkpoint/safetensors/index.js";
import { expectRejection } from "../../support/errors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

/** What was done to the file system, in order, and what is to fail. */
const calls = vi.hoisted(() => ({ log: [] as string[], failing: "", code: "EIO", onWrite: () => {} }));

vi.mock("node:fs/promises", async (importOriginal) => {
  const original = await importOriginal<typeof import("node:fs/promises")>();
  const record = (call: string) => {
    calls.log.push(call);
    if (call === calls.failing)
      throw Object.assign(new Error(`${calls.code}: ${call}`), { code: calls.code, syscall: call });
  };
  return {
    ...original,
    open: async (path: string, ...rest: []) => {
      const kind = path.endsWith(".tmp") ? "file" : "folder";
      record(`open ${kind}`);
      const handle = await original.open(path, ...rest);
      for (const method of ["sync", "close"] as const) {
        const call = handle[method].bind(handle);
        Object.assign(handle, {
          [method]: async () => {
            record(`${method} ${kind}`);
            await call();
          },
        } satisfies Partial<FileHandle>);
      }
      const write = handle.write.bind(handle) as FileHandle["write"];
      const nothing = async () => ({ bytesWritten: 0 });
      const takes = (...given: Parameters<typeof write>) => {
        if (calls.failing === "take bytes") return nothing();
        const writing = write(...given);
        calls.onWrite();
        return writing;
      };
      return Object.assign(handle, { write: takes } as Partial<FileHandle>);
    },
    copyFile: async (from: string, to: string) => {
      writeFileSync(to, readFileSync(from).subarray(0, 1));
      record("copy rest");
      await original.copyFile(from, to);
    },
    link: async (from: string, to: string) => {
      record("link");
      await original.link(from, to);
    },
    rm: async (path: string, options?: { force?: boolean }) => {
      if (!options?.force) record("remove");
      await original.rm(path, options);
    },
    rename: async (from: string, to: string) => {
      record("rename");
      await original.rename(from, to);
    },
  };
});

beforeEach(() => {
  Object.assign(calls, { log: [], failing: "", code: "EIO", onWrite: () => {} });
});

const tensors = { a: { dtype: "U8", shape: [1], data: Uint8Array.of(1) } } as const;

test.each([
  ["a file", (path: string) => writeSafetensors(path, tensors)],
  ["a text", (path: string) => writeTextAtomically(path, "{}")],
])("%s is on disk before it has its name, and the name before the call ends", async (_, write) => {
  using directory = temporaryDirectory();
  await write(join(directory.path, "a"));
  expect(calls.log).toEqual([
    "open file",
    "sync file",
    "close file",
    "open folder",
    "rename",
    "sync folder",
    "close folder",
  ]);
});

test.each(["sync file", "close file", "open folder", "rename"])(
  "a failing %s leaves the old file and nothing else",
  async (failing) => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "a.safetensors");
    await writeSafetensors(path, tensors);
    const before = readFileSync(path);
    calls.failing = failing;
    const other = { a: { ...tensors.a, data: Uint8Array.of(2) } };
    await expectRejection(writeSafetensors(path, other), "WRITE_FAILED", /cannot be written: EIO/);
    expect(readdirSync(directory.path)).toEqual(["a.safetensors"]);
    expect(readFileSync(path).equals(before)).toBe(true);
  },
);

test("a folder that may be written but not read gets its files", async () => {
  using directory = temporaryDirectory();
  Object.assign(calls, { failing: "open folder", code: "EACCES" });
  await writeShardedSafetensors(directory.path, { ...tensors, b: tensors.a }, { maximumShardBytes: 1 });
  expect(readdirSync(directory.path).toSorted()).toEqual([
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
  ]);
});

test("a file that takes a free name and leaves its old one behind is not one that was there before", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "a.safetensors");
  const existing = () => new Error("there is a file");
  const parts = [{ place: "a", byteLength: 1, bytes: Uint8Array.of(1) }];
  calls.failing = "remove";
  await expectRejection(writeAtomically(path, parts, { existing }), "WRITE_FAILED", /cannot be written: EIO: remove/);
  expect(readdirSync(directory.path)).toEqual(["a.safetensors"]);
  calls.failing = "";
  await expect(writeAtomically(path, parts, { existing })).rejects.toThrow("there is a file");
});

test("a file system that takes no bytes is an error", async () => {
  using directory = temporaryDirectory();
  calls.failing = "take bytes";
  const writing = writeSafetensors(join(directory.path, "a.safetensors"), tensors);
  await expectRejection(writing, "WRITE_FAILED", /cannot be written: none of \d+ bytes were taken$/);
  expect(readdirSync(directory.path)).toEqual([]);
});

test("a buffer that is transferred while its last bytes are written is refused", async () => {
  using directory = temporaryDirectory();
  const { buffer } = new Uint8Array(3);
  calls.onWrite = () => void (buffer.byteLength > 0 && structuredClone(buffer, { transfer: [buffer] }));
  const parts = [{ place: "a", byteLength: 3, bytes: new Uint8Array(buffer) }];
  const writing = writeAtomically(join(directory.path, "a"), parts, {});
  await expectRejection(writing, "INVALID_ARGUMENT", /^a: expected a buffer that stays in place until it is written/);
  expect(readdirSync(directory.path)).toEqual([]);
});

test("a copy has its name once it is complete", async () => {
  using directory = temporaryDirectory();
  const [from, to] = [join(directory.path, "from"), join(directory.path, "to")];
  writeFileSync(from, "new");
  writeFileSync(to, "old");
  for (const failing of ["copy rest", "rename"]) {
    calls.failing = failing;
    await expectRejection(copyAtomically(from, to), "WRITE_FAILED", /to: cannot be written: EIO/);
    expect(readdirSync(directory.path)).toEqual(["from", "to"]);
    expect(readFileSync(to, "utf8")).toBe("old");
  }
  calls.failing = "";
  await copyAtomically(from, to);
  expect(readFileSync(to, "utf8")).toBe("new");
});
