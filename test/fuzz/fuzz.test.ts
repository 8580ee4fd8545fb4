import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { runScript } from "../support/run_script.js";

const script = "scripts/fuzz.mjs";

test("two rounds on every device find nothing, and mostly compare", () => {
  const { status, stdout, stderr } = runScript(script, ["--seed", "7", "--rounds", "2"]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  // 40 steps on three devices each.
  expect(stdout).toMatch(/^fuzz: seed 7, 240 calls .* \d+ compared with reference \([3-9]\d %\), .*; 0 failures\n$/);
});

test("a step is run again by its place", () => {
  const { status, stdout } = runScript(script, [..."--seed 7 --round 1 --step 3 --device reference".split(" ")]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^fuzz: seed 7, 1 calls /);
});

test.each(["read-safetensors", "read-gguf"])("%s puts a number of damaged files through the readers", (kind) => {
  const { status, stdout, stderr } = runScript(script, ["--only", kind, "--count", "201", "--seed", "7"]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  // Whole rounds of 40.
  const [, accepted, refused] =
    /^fuzz: seed 7, 240 damaged files in \d+ s: (\d+) accepted, (\d+) refused; 0 failures\n$/.exec(stdout) ?? [];
  expect(Number(accepted) + Number(refused)).toBe(240);
  expect(Math.min(Number(accepted), Number(refused))).toBeGreaterThan(0);
});

test("a run that is stopped tells what it did", async () => {
  const args = ["scripts/fuzz.mjs", "--only", "read-safetensors", "--seed", "7", "--seconds", "600"];
  const child = spawn(process.execPath, args, { cwd: packageRoot() });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const started = () => readdirSync(join(packageRoot(), "build")).some((name) => name.startsWith(`fuzz-${child.pid}-`));
  while (!started()) await setTimeout(50);
  child.kill();
  expect(await once(child, "close")).toEqual([0, null]);
  expect(output).toMatch(/^fuzz: seed 7, \d+ damaged files in \d+ s: .*; 0 failures\n$/);
});

test("a count of steps is not combined with rounds", () => {
  const { status, stderr } = runScript(script, ["--count", "9", "--rounds", "2"]);
  expect(status).toBe(2);
  expect(stderr).toMatch(/^--count cannot be combined with --rounds or --round\n/);
});

test.each(["--seconds=-1", "--rounds=x", "--count=-1"])("%s is a wrong command line", (option) => {
  const { status, stdout, stderr } = runScript(script, [option]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(/^--\w+: expected a number >= 0, got /);
});
