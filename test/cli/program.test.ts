import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, test, vi } from "vitest";
import type { ListedCommand } from "../../lib/cli/command.js";
import { commandList } from "../../lib/cli/command_list.js";
import { MoeError } from "../../lib/core/errors.js";
import { runCli } from "./support/run_cli.js";

const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };

describe("help", () => {
  test.each([[[]], [["--help"]], [["-h"]], [["help"]]])("of the program: %j lists the commands", async (args) => {
    const { exitCode, stdout, stderr } = await runCli(args);
    expect(exitCode).toBe(0);
    expect(stderr).toBe("");
    for (const command of ["info", "inspect", "run", "quantize", "verify", "offload-trace", "demo"])
      expect(stdout).toMatch(new RegExp(`^ {2}${command} `, "m"));
  });

  test.each([
    ["info", ["--json"]],
    ["inspect", ["inspect DIR|FILE ", "--layer N", "--tokens N", "--json"]],
    [
      "run",
      [
        "--model DIR",
        "--cache [FOLDER]",
        "--file FILE",
        "--shape NAME",
        "--tokens N",
        "--device NAME",
        "--dtype DTYPE",
        "--compare DIR",
        "--json",
      ],
    ],
    ["verify", ["--device NAME", "--filter TEXT", "--json"]],
    ["offload-trace", ["offload-trace FILE... ", "--slots N", "--experts N", "--chart FILE", "--json"]],
    ["quantize", ["quantize DIR --format FORMAT --out DIR2", "--scale HOW", "--resume", "--overwrite"]],
    ["demo", ["--verbose"]],
  ])("of %s names its options", async (command, options) => {
    const { exitCode, stdout } = await runCli([command, "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(new RegExp(`^Usage: moe-kernels ${command}( \\S.*\\S)?\n`));
    expect(await runCli(["help", command])).toEqual({ exitCode, stdout, stderr: "" });
    for (const option of options) expect(stdout).toContain(option);
  });

  test("wins over other arguments, even wrong ones", async () => {
    expect((await runCli(["run", "--bogus", "-h"])).exitCode).toBe(0);
  });
});

test.each(["--version", "-V"])("%s prints the version of package.json", async (option) => {
  expect(await runCli([option])).toEqual({ exitCode: 0, stdout: `${version}\n`, stderr: "" });
});

describe("a wrong command line gets a short help and exit code 2", () => {
  test.each([
    [
      ["frobnicate"],
      /unknown command "frobnicate"\nCommands: info, inspect, run, quantize, serve, verify, bench, bench compare, offload-trace, demo/,
    ],
    [["inpsect"], /unknown command "inpsect"; did you mean "inspect"\?\n/],
    [["info", "--jsn"], /Unknown option '--jsn'; did you mean --json\?\n/],
    [["--frobnicate"], /unknown option "--frobnicate"/],
    [["info", "--frobnicate"], /Unknown option '--frobnicate'\nUsage: moe-kernels info/],
    [["help", "frobnicate"], /unknown command "frobnicate"/],
    [["info", "extra"], /'extra'.*\nUsage: moe-kernels info/],
    [["verify", "--device"], /'--device <value>' argument missing\nUsage: moe-kernels verify/],
    [["verify", "--device", "gpu"], /--device: expected "auto", "cpu", .*, got "gpu"\nUsage: moe-kernels verify/],
    [["run", "--shape", "A", "--device", "cpu,gpu"], /--device: expected .*, got "gpu"\nUsage: moe-kernels run/],
    [["bench", "--device", "gpu"], /--device: expected .*, got "gpu"\nUsage: moe-kernels bench/],
    [["quantize", "DIR", "--format", "int8", "--out", "OUT", "--device", "gpu"], /--device: expected .*, got "gpu"/],
  ])("%j", async (args, message) => {
    const { exitCode, stdout, stderr } = await runCli(args);
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toMatch(message);
  });
});

describe("an error of the package", () => {
  const args = ["run", "--file", "missing.safetensors", "--device", "reference"];

  test("is one line and exit code 1", async () => {
    const { exitCode, stdout, stderr } = await runCli(args);
    expect(exitCode).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^moe-kernels: BAD_CHECKPOINT: .*missing\.safetensors.*\n$/);
  });

  test("shows its stack with --verbose", async () => {
    expect((await runCli([...args, "--verbose"])).stderr).toMatch(/\n +at /);
  });
});

describe("colours", () => {
  const escapeCode = String.fromCharCode(27);

  beforeEach(() => {
    vi.stubEnv("FORCE_COLOR", undefined);
    vi.stubEnv("NO_COLOR", undefined);
    vi.stubEnv("CI", undefined); // Node takes it for a terminal without colours
    vi.stubEnv("TERM", "xterm-256color");
    return () => vi.unstubAllEnvs();
  });

  test("are used in a terminal", async () => {
    expect((await runCli(["info"], { terminal: true })).stdout).toContain(escapeCode);
  });

  test("are left out if NO_COLOR is set", async () => {
    vi.stubEnv("NO_COLOR", "1");
    expect((await runCli(["info"], { terminal: true })).stdout).not.toContain(escapeCode);
  });

  test("are left out if the output is not a terminal", async () => {
    const { stdout, stderr } = await runCli(["info", "--frobnicate"]);
    expect(stdout + stderr + (await runCli(["info"])).stdout).not.toContain(escapeCode);
  });
});

test("progress is a bar in a terminal, erased at the end", async () => {
  const args = ["verify", "--device", "reference", "--filter", "combine"];
  const { stderr } = await runCli(args, { terminal: true });
  expect(stderr).toMatch(/Verifying reference [█░]+ \d+%/);
  expect(stderr.endsWith("[2K")).toBe(true); // erases the line
});

test("progress leaves the terminal's modes as they are, which Ctrl-C would not restore", async () => {
  const args = ["verify", "--device", "reference", "--filter", "combine"];
  expect((await runCli(args, { terminal: true })).stderr).not.toContain("[?");
});

test("a command whose modules fail to load is an error like others", async () => {
  const demo = commandList.find(({ name }) => name === "demo") as ListedCommand;
  const load = vi.spyOn(demo, "load").mockRejectedValue(new MoeError("INTERNAL", "no package.json was found"));
  const { exitCode, stderr } = await runCli(["demo"]);
  load.mockRestore();
  expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "moe-kernels: INTERNAL: no package.json was found\n" });
});
