import { readdirSync, readFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { writeSafetensors } from "../../lib/checkpoint/safetensors/index.js";
import { expectRejection } from "../support/errors.js";
import { temporaryDirectory } from "./support/temporary_directory.js";

/** What was done to the file system, in order, and what is to fail. */
const calls = vi.hoisted(() => ({ log: [] as string[], failing: "" }));

vi.mock("node:fs/promises", async (importOriginal) => {
  const original = await importOriginal<typeof import("node:fs/promises")>();
  const record = (call: string) => {
    calls.log.push(call);
    if (call === calls.failing) throw Object.assign(new Error("EIO: i/o error"), { code: "EIO", syscall: call });
  };
  return {
    ...original,
    open: async (path: string, ...rest: []) => {
      const handle = await original.open(path, ...rest);
      const kind = path.endsWith(".tmp") ? "file" : "folder";
      for (const method of ["sync", "close"] as const) {
        const call = handle[method].bind(handle);
        Object.assign(handle, {
          [method]: async () => {
            record(`${method} ${kind}`);
            await call();
          },
        } satisfies Partial<FileHandle>);
      }
      return handle;
    },
    rename: async (from: string, to: string) => {
      record("rename");
      await original.rename(from, to);
    },
  };
});

beforeEach(() => {
  Object.assign(calls, { log: [], failing: "" });
});

const tensors = { a: { dtype: "U8", shape: [1], data: Uint8Array.of(1) } } as const;

test("a file is on disk before it has its name, and the name before the call ends", async () => {
  using directory = temporaryDirectory();
  await writeSafetensors(join(directory.path, "a.safetensors"), tensors);
  expect(calls.log).toEqual(["sync file", "close file", "rename", "sync folder", "close folder"]);
});

test.each(["sync file", "rename"])("a failing %s leaves the old file and nothing else", async (failing) => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "a.safetensors");
  await writeSafetensors(path, tensors);
  const before = readFileSync(path);
  calls.failing = failing;
  const other = { a: { ...tensors.a, data: Uint8Array.of(2) } };
  await expectRejection(writeSafetensors(path, other), "BAD_CHECKPOINT", /cannot be written: EIO/);
  expect(readdirSync(directory.path)).toEqual(["a.safetensors"]);
  expect(readFileSync(path).equals(before)).toBe(true);
});
