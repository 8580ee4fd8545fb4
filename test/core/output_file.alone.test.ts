import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { writeOutput } from "../../lib/core/files/output_file.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expectRejection } from "../support/errors.js";

/** What fails of what is done to the new file, and how. */
const fault = vi.hoisted(() => ({ call: "", code: "" }));

vi.mock("node:fs/promises", async (importOriginal) => {
  const original = await importOriginal<typeof import("node:fs/promises")>();
  const check = (call: string) => {
    if (call === fault.call) throw Object.assign(new Error(`${fault.code}: ${call}`), { code: fault.code });
  };
  return {
    ...original,
    access: async (...given: Parameters<typeof original.access>) => {
      check("access");
      await original.access(...given);
    },
    open: async (...given: Parameters<typeof original.open>) => {
      check("open");
      const handle = await original.open(...given);
      const write = handle.writeFile.bind(handle);
      return Object.assign(handle, {
        writeFile: async (text: string) => {
          await write(text.slice(0, 2));
          check("write");
          await write(text.slice(2));
        },
      } as Partial<FileHandle>);
    },
    rename: async (...given: Parameters<typeof original.rename>) => {
      check("rename");
      await original.rename(...given);
    },
  };
});

beforeEach(() => {
  Object.assign(fault, { call: "", code: "" });
});

test.each([
  ["open", "ENOSPC"],
  ["write", "ENOSPC"],
  ["rename", "EIO"],
])("where %s fails with %s, the file that was there is kept and nothing else is left", async (call, code) => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "report.json");
  const message = new RegExp(`^--json: expected a writable file, got .*report\\.json: ${code}: ${call}$`);
  Object.assign(fault, { call, code });
  await expectRejection(writeOutput(path, "new text", "--json"), "WRITE_FAILED", message);
  expect(readdirSync(directory.path)).toEqual([]);
  writeFileSync(path, "old");
  await expectRejection(writeOutput(path, "new text", "--json"), "WRITE_FAILED", message);
  expect(readdirSync(directory.path)).toEqual(["report.json"]);
  expect(readFileSync(path, "utf8")).toBe("old");
});

test.each([
  ["open", "EACCES"],
  ["open", "EROFS"],
  ["rename", "EBUSY"],
  ["rename", "EPERM"],
])("where %s fails with %s, a file that is there is written in place", async (call, code) => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "report.json");
  Object.assign(fault, { call, code });
  await expectRejection(writeOutput(path, "new", "--json"), "WRITE_FAILED", new RegExp(`${code}: ${call}$`));
  writeFileSync(path, "a longer text");
  await writeOutput(path, "new", "--json");
  expect(readdirSync(directory.path)).toEqual(["report.json"]);
  expect(readFileSync(path, "utf8")).toBe("new");
});

test("a file that may not be written is not replaced either", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "report.json");
  writeFileSync(path, "old");
  Object.assign(fault, { call: "access", code: "EACCES" });
  await expectRejection(writeOutput(path, "new", "--json"), "WRITE_FAILED", /EACCES: access$/);
  expect(readFileSync(path, "utf8")).toBe("old");
});
