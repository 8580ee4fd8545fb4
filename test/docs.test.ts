import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { runScript } from "./support/run_script.js";

// Commands in the documentation exist, and take the options that are given there.

const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as { scripts: Record<string, string> };
/** What npm does without a script of package.json. */
const ownCommands = ["ci", "install", "pack", "publish", "run", "test"];

const guides = readdirSync("docs/guides").map((name) => `docs/guides/${name}`);

describe.each(["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", ...guides])("%s", (file) => {
  const text = readFileSync(file, "utf8");

  test("names npm scripts that exist", () => {
    const names = [...text.matchAll(/npm run ([\w:-]+)/g)].map(([, name]) => name as string);
    if (!guides.includes(file)) expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
    const commands = [...text.matchAll(/`npm (\w+)/g)].map(([, name]) => name as string);
    expect(commands.filter((name) => !ownCommands.includes(name))).toEqual([]);
  });
});

/** Commands whose options stand in the documentation with values. */
const written = ["README.md", "SECURITY.md", ...guides]
  .map((file) => readFileSync(file, "utf8"))
  .flatMap((text) => [...text.matchAll(/npm run ([\w:-]+) -- ((?:--[\w-]+(?: [\w.,]+)? ?)+)/g)])
  .map(([, name, options]) => [name as string, (options as string).trim()] as const);

test.each(written)("npm run %s -- %s is a command line that it takes", (name, options) => {
  const program = scripts[name]?.match(/node (?:--\S+ )?(\S+)$/)?.[1] as string;
  // Help is printed only if everything before it is known.
  const { status, stdout, stderr } = runScript(program, [...options.split(" "), "--help"]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toContain(`Usage: npm run ${name} --`);
});

test("some commands are written with options", () => {
  expect(written.map(([name]) => name)).toContain("fuzz");
});
