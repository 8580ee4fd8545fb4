import { describe, expect, test } from "vitest";
import { listDevices } from "../../lib/devices.js";
import * as exported from "../../lib/index.js";
import { composedOperators } from "../../lib/testing/case.js";
import { testedOperators } from "../../lib/testing/subject/test_cases.js";
import { cases } from "../../lib/testing/table.js";
import { deviceNames } from "../support/devices.js";
import { runCli } from "./support/run_cli.js";

describe.each(deviceNames)("verify --device %s", (device) => {
  test("prints a table of worst errors", async () => {
    const { exitCode, stdout, stderr } = await runCli(["verify", "--device", device, "--filter", "combine"]);
    const count = cases.filter(({ operator }) => operator.includes("combine")).length;
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(`${device}: ${count} cases in `);
    expect(stdout).toContain("✔ passed");
    expect(stdout).toMatch(/^combine +y +\d+ +\S+ +\d\.\de-\d+ +T\d+/m);
    expect(stderr).toBe(`Verifying ${device} ...\n`);
  });
});

test("verify --json lists every check of every case", async () => {
  const args = ["verify", "--device", "reference,cpu", "--filter", "sort", "--json"];
  const { exitCode, stdout } = await runCli(args);
  expect(exitCode).toBe(0);
  const { passed, devices } = JSON.parse(stdout);
  expect(passed).toBe(true);
  expect(devices.map(({ device }: { device: string }) => device)).toEqual(["reference", "cpu"]);
  const names = cases.filter(({ operator }) => operator === "sort").map(({ name }) => name);
  for (const { results } of devices) {
    expect(results.map(({ name }: { name: string }) => name)).toEqual(names);
    expect(results[0].checks[0]).toMatchObject({ output: "offsets", dtype: "i32", error: 0, tolerance: 0 });
  }
});

test("operators are named as their functions are, or as subjects have them", async () => {
  const composed = new Set(Object.keys(composedOperators));
  const own = ["copyMatrix", "imbalance", "layer", "layerBackward"];
  const known = [...Object.keys(exported), ...testedOperators, ...own];
  const names = new Set(cases.map(({ operator }) => operator));
  expect([...names].filter((name) => !known.includes(name))).toEqual([]);
  expect([...names].some((name) => composed.has(name))).toBe(true);
  const { stdout } = await runCli(["verify", "--device", "reference", "--filter", "rmsNorm T1 "]);
  expect(stdout).toMatch(/^rmsNorm +y /m);
  expect((await runCli(["verify", "--filter", "rms_norm T1 "])).exitCode).toBe(2);
});

test("a filter that no case matches is a wrong command line", async () => {
  const { exitCode, stderr } = await runCli(["verify", "--filter", "frobnicate"]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('no case\'s operator and name contain "frobnicate"');
});

test("devices that are left out are named with the reason", async () => {
  const leftOut = listDevices().filter(({ available }) => !available);
  const { exitCode, stdout } = await runCli(["verify", "--filter", "combine"]);
  expect(exitCode).toBe(0);
  for (const { name, detail } of leftOut) expect(stdout).toContain(`- ${name} was left out: ${detail}\n`);
  const named = await runCli(["verify", "--filter", "combine", "--device", "reference"]);
  expect(named.stdout).not.toContain("left out");
  const json = await runCli(["verify", "--filter", "combine", "--json"]);
  expect(JSON.parse(json.stdout)).toMatchObject({ passed: true, leftOut });
});

test("a device that does not exist is an error before any work on the others", async () => {
  const { exitCode, stdout, stderr } = await runCli(["verify", "--device", "reference,tpu"]);
  expect(exitCode).toBe(2);
  expect(stdout).toBe("");
  expect(stderr).toMatch(/--device: expected .*got "tpu"/);
});
