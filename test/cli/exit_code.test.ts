import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { goldenModel, writeModel } from "../checkpoint/support/model_directory.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { needs } from "../support/requirements.js";

/** The exit code of the command line if nobody reads its output. */
async function exitCodeUnread(args: readonly string[]): Promise<number | null> {
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  child.stderr.destroy();
  const [code] = await once(child, "exit");
  return code as number | null;
}

describe("a closed standard output does not change the exit code", () => {
  test("0 for a good checkpoint", async () => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, await goldenModel("mixtral_small"));
    expect(await exitCodeUnread(["inspect", directory.path])).toBe(0);
  });

  test("1 for a checkpoint that lacks a tensor", async () => {
    using directory = temporaryDirectory();
    const model = await goldenModel("mixtral_small");
    model.weights.delete([...model.weights.keys()].at(-1) as string);
    await writeModel(directory.path, model);
    expect(await exitCodeUnread(["inspect", directory.path])).toBe(1);
  });

  test("1 for a missing file", async () => {
    expect(await exitCodeUnread(["run", "--file", "missing.safetensors", "--device", "reference"])).toBe(1);
  });

  test("2 for a wrong command line", async () => {
    expect(await exitCodeUnread(["frobnicate"])).toBe(2);
  });
});

describe("on a full disk", needs("/dev/full"), () => {
  const start = (args: readonly string[], stdout: number | "pipe", stderr: number | "pipe") =>
    spawn(process.execPath, ["dist/cli/main.js", ...args], { stdio: ["ignore", stdout, stderr] });
  const full = () => openSync("/dev/full", "w");

  test.each([["--version"], ["--help"], ["info"], ["info", "--json"]])(
    "%s %s prints one line and exits with 1",
    async (...args) => {
      const child = start(args, full(), "pipe");
      const [errors, [code]] = await Promise.all([text(child.stderr as NodeJS.ReadableStream), once(child, "exit")]);
      expect(errors).toMatch(/^moe-kernels: cannot write to standard output: ENOSPC: .*\n$/);
      expect(code).toBe(1);
    },
  );

  test("standard error may be lost", async () => {
    const child = start(["run", "--file", "missing.safetensors"], "pipe", full());
    expect(await once(child, "exit")).toEqual([1, null]);
    const good = start(["--version"], "pipe", full());
    expect(await once(good, "exit")).toEqual([0, null]);
  });
});
