import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isUnfinishedOf, underTemporaryName, writeWholeText } from "../../lib/core/files/whole_file.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";

test.each(["x".repeat(255), "é".repeat(127), `${"🦔".repeat(61)}12.json`])(
  "a long name is written: %s",
  async (name) => {
    using directory = temporaryDirectory();
    const path = join(directory.path, name);
    // What stays if the process ends here.
    await underTemporaryName(path, async (temporary) => {
      writeFileSync(temporary, "some");
      utimesSync(temporary, 0, 0);
    });
    const [left = ""] = readdirSync(directory.path);
    expect(left).toMatch(/\.tmp$/);
    expect(isUnfinishedOf(path, left)).toBe(true);
    await writeWholeText(path, "all");
    expect(readdirSync(directory.path)).toEqual([name]);
  },
);

test("what ended processes left of the same file is removed when it is written", async () => {
  using directory = temporaryDirectory();
  const path = join(directory.path, "a.safetensors");
  const left = (name: string, secondsAgo: number) => {
    const unfinished = `${name}.${randomUUID()}.tmp`;
    const time = Date.now() / 1000 - secondsAgo;
    writeFileSync(join(directory.path, unfinished), "some");
    utimesSync(join(directory.path, unfinished), time, time);
    return unfinished;
  };
  for (let count = 0; count < 3; count++) left("a.safetensors", 2 * 60 * 60);
  const others = [
    left("a.safetensors", 60), // another process may be writing it
    left("b.safetensors", 2 * 60 * 60),
    left("a.safetensors.b", 2 * 60 * 60),
  ];
  await writeWholeText(path, "all");
  expect(readdirSync(directory.path).toSorted()).toEqual(["a.safetensors", ...others].toSorted());
  expect(readFileSync(path, "utf8")).toBe("all");
});
