import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makeFolder } from "../../lib/core/files/make_folder.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { needs } from "../support/requirements.js";

test("makes a folder and those that it is in, also if some are there", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "a", "b", "c");
  await makeFolder(path);
  await makeFolder(path);
  expect(statSync(path).isDirectory()).toBe(true);
  await makeFolder(join(directory.path, "a", "d"));
  expect(existsSync(join(directory.path, "a", "d"))).toBe(true);
});

test("ends where something else is in the way", async () => {
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, "file"), "");
  await expect(makeFolder(join(directory.path, "file"))).rejects.toMatchObject({ code: "EEXIST" });
  await expect(makeFolder(join(directory.path, "file", "a"))).rejects.toMatchObject({ code: "ENOTDIR" });
  mkdirSync(join(directory.path, "folder"));
  symlinkSync(join(directory.path, "folder"), join(directory.path, "link"));
  await makeFolder(join(directory.path, "link"));
});

test("ends where a folder takes no others", needs("Linux"), async () => {
  await expect(makeFolder("/proc/moe-kernels")).rejects.toMatchObject({ code: "ENOENT" });
  await expect(makeFolder("/proc/moe-kernels/a")).rejects.toMatchObject({ code: "ENOENT" });
});
