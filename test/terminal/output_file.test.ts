import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { checkDifferentOutputs, outputListOption, outputOption } from "../../lib/terminal/output_file.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { needs } from "../support/requirements.js";

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
const at = (name: string) => join(directory.path, name);

test("a file is written at the end, new or over another", async () => {
  writeFileSync(at("old.json"), "a longer text");
  for (const name of ["new.json", "old.json"]) {
    const file = await outputOption("json", at(name));
    await file?.write("text");
    expect(readFileSync(at(name), "utf8")).toBe("text");
  }
  expect(await outputOption("json", undefined)).toBeUndefined();
});

test("a file that is replaced keeps its permissions, and a link leads to the new one", async () => {
  mkdirSync(at("target"));
  writeFileSync(at("target/a.json"), "old");
  chmodSync(at("target/a.json"), 0o606);
  symlinkSync(at("target/a.json"), at("link.json"));
  const before = statSync(at("target/a.json"));
  await (await outputOption("json", at("link.json")))?.write("new");
  expect(lstatSync(at("link.json")).isSymbolicLink()).toBe(true);
  expect(readFileSync(at("target/a.json"), "utf8")).toBe("new");
  const after = statSync(at("target/a.json"));
  expect(after.mode).toBe(before.mode);
  // Another file took its place: whoever has the old one open reads all of it.
  expect(after.ino).not.toBe(before.ino);
  expect(readdirSync(at("target"))).toEqual(["a.json"]);
});

test("a device is written to, not replaced", needs("/dev/null and /dev/zero"), async () => {
  await (await outputOption("json", "/dev/null"))?.write("text");
  expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
});

test("its extension may be in capitals", async () => {
  const files = await outputListOption("report", [at("a.HTML"), at("b.svg")], [".html", ".svg"]);
  expect(files.map(({ extension }) => extension)).toEqual([".html", ".svg"]);
});

test.each([
  ["a.pdf", [".json", ".xml", ".html"], '--report: expected a name in .json, .xml or .html, got "a.pdf"'],
  ["a", [".svg"], '--report: expected a name in .svg, got "a"'],
  ["", undefined, '--report: expected the name of a file, got ""'],
])("%j is a wrong name", async (name, extensions, message) => {
  await expect(outputOption("report", name, extensions)).rejects.toMatchObject({ name: "UsageError", message });
});

test.each([
  ["none/a.svg", "ENOENT"],
  ["file/a.svg", "ENOTDIR"],
  ["none/", "ENOENT"],
  ["folder/", "it is a folder"],
  ["folder.svg", "it is a folder"],
])("%s cannot be written", async (name, why) => {
  writeFileSync(at("file"), "");
  for (const folder of ["folder", "folder.svg"]) mkdirSync(at(folder), { recursive: true });
  await expect(outputOption("chart", at(name))).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringMatching(`^--chart: expected a writable file, got .*: ${why}`),
  });
});

describe("files of which one would replace another", () => {
  const refused = (message: RegExp) =>
    expect.objectContaining({ name: "UsageError", message: expect.stringMatching(message) });

  test("are refused by the names of both options, also if the file has two names", async () => {
    const check = async (first: string, second: string) =>
      checkDifferentOutputs(await outputOption("json", first), undefined, await outputOption("chart", second));
    mkdirSync(at("real"));
    symlinkSync(at("real"), at("linked"));
    writeFileSync(at("there.svg"), "");
    linkSync(at("there.svg"), at("hard.svg"));
    for (const [first, second] of [
      ["new.svg", "new.svg"],
      ["new.svg", "real/../new.svg"],
      ["real/new.svg", "linked/new.svg"],
      ["there.svg", "hard.svg"],
    ] as const) {
      const message = /^--chart: expected another file than that of --json, got ".*\.svg" for both$/;
      await expect(check(at(first), at(second))).rejects.toEqual(refused(message));
    }
    await check(at("there.svg"), at("other.svg"));
    await check(at("real/new.svg"), at("new.svg"));
  });

  test("are refused if one option names them", async () => {
    const twice = outputListOption("report", [at("a.json"), at("b.json"), at("a.json")]);
    await expect(twice).rejects.toEqual(refused(/^--report: expected different files, got ".*a\.json" twice$/));
  });
});
