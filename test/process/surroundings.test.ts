import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { needs } from "../support/requirements.js";
import { cleanExit, runFixture } from "./run_fixture.js";

describe("a process", () => {
  test.each(["Uint8Array", "Float32Array"])("that has replaced %s computes", async (name) => {
    const outcome = await runFixture("replaced_arrays", "cpu", [], { args: [name] });
    expect(outcome).toEqual(cleanExit("8 8 8 8 8 8\n"));
  });

  test("without room for threads is told which limits there are", needs("Linux"), async () => {
    const { code, stdout } = await runFixture("many_threads", "cpu", [], { addressSpace: 3 * 2 ** 30 });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^OUT_OF_MEMORY the system starts no more threads: .* ulimit -v and vm\.max_map_count/);
    expect(stdout.split("\n")[1]).toBe("8 8 8 8 8 8");
  });

  test("that loads no addons is told how to", async () => {
    const { code, stderr } = await runFixture("open_device", "cpu", ["--no-addons"]);
    expect(code).toBe(1);
    expect(stderr).toContain("  - start Node without --no-addons\n");
  });

  test("that may not read a model is told which permission it lacks", async () => {
    using directory = temporaryDirectory();
    const permission = process.allowedNodeEnvironmentFlags.has("--permission")
      ? "--permission"
      : "--experimental-permission";
    const read = `--allow-fs-read=${fileURLToPath(new URL("../..", import.meta.url))}`;
    const flags = ["--no-warnings", permission, read];
    const { stdout } = await runFixture("open_model", "cpu", flags, { args: [directory.path] });
    expect(stdout).toContain(`BAD_CHECKPOINT ${directory.path}`);
    expect(stdout).toContain("start Node with --allow-fs-read for the folder that this is in");
  });
});
