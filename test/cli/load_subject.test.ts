import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";
import { runCli } from "./support/run_cli.js";

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());
let written = 0;
/** A new file each time: a module is loaded once. */
const write = (source: string): string => {
  const file = join(directory.path, `${++written}.mjs`);
  writeFileSync(file, source);
  return file;
};
const missing = join(directory.path, "nothing.mjs");
const thrower = write('throw new Error("no GPU here\\nlook for one");');
const testing = JSON.stringify(new URL("../../dist/testing/index.js", import.meta.url).href);

describe.each([
  ["verify", "subject"],
  ["bench", "contender"],
])("%s --%s", (command, option) => {
  const load = (file: string, ...args: string[]) => runCli([command, `--${option}`, file, ...args]);

  test("with a file that does not exist is one line that names it", async () => {
    expect(await load(missing)).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: `moe-kernels: INVALID_ARGUMENT: --${option}: expected the file of a module, got ${missing}, which does not exist\n`,
    });
  });

  test("with a module that throws is one line that names it, and has its stack with --verbose", async () => {
    const line = `moe-kernels: INVALID_ARGUMENT: --${option}: ${thrower} cannot be loaded: no GPU here\n`;
    expect(await load(thrower)).toEqual({ exitCode: 1, stdout: "", stderr: line });
    const { stderr } = await load(thrower, "--verbose");
    expect(stderr.startsWith(line)).toBe(true);
    expect(stderr).toMatch(/^Caused by Error: no GPU here\nlook for one\n +at .*\d\.mjs/m);
  });

  test.each([
    ["export const name = 1;", / to have a default export \{ name, operators \}\n/],
    ["export default { name: 3 };", /\.mjs: subject\.name: expected a string, got 3\n/],
    ["export default { name: 'x', operators: { gate() {} } };", /\.mjs: subject\.operators: expected names among /],
  ])("with %s is a wrong command line", async (source, message) => {
    const { exitCode, stderr } = await load(write(source));
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(new RegExp(`^moe-kernels: --${option}: `));
    expect(stderr).toMatch(message);
  });
});

test.each([
  ["an import that is not there", 'import "no-such-package";', /Cannot find package 'no-such-package' imported from /],
  ["a wrong syntax", "export default {", /Unexpected end of input|Unexpected token/],
  [
    "a process that cannot be started",
    `import { processSubject } from ${testing}; export default await processSubject("no_such_program");`,
    /command: expected a process that answers, got no_such_program: it cannot be started: /,
  ],
])("a module with %s is one line that says why it cannot be loaded", (_, source, reason) => {
  const { status, stdout, stderr } = runScript("dist/cli/main.js", ["bench", "--contender", write(source)]);
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toMatch(/^moe-kernels: INVALID_ARGUMENT: --contender: .* cannot be loaded: .*\n$/);
  expect(stderr).toMatch(reason);
});

test("contenders that were loaded are closed if another cannot be", async () => {
  const closed = join(directory.path, "closed");
  const close = `writeFileSync(${JSON.stringify(closed)}, "")`;
  const first = write(
    `import { writeFileSync } from "node:fs";
    export default { name: "first", operators: { sort: () => null }, close: () => ${close} };`,
  );
  const { exitCode } = await runCli(["bench", "--contender", `${first},${missing}`]);
  expect({ exitCode, closed: existsSync(closed) }).toEqual({ exitCode: 1, closed: true });
});
