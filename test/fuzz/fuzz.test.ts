import { expect, test } from "vitest";
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

test.each(["--seconds=-1", "--rounds=x"])("%s is a wrong command line", (option) => {
  const { status, stdout, stderr } = runScript(script, [option]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(/^--\w+: expected a number >= 0, got /);
});
