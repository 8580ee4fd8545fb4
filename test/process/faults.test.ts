import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { needs } from "../support/requirements.js";
import { runScript } from "../support/run_script.js";
import { cleanExit, nativeDevices, runFixture } from "./run_fixture.js";

const preloaded = join(packageRoot(), "build", "Release", "moe_faults.node");

// `npm run test:faults` does all of what is done here in part.
describe("calls of the system that fail", needs("the library of faults"), () => {
  const sample = [
    ["cpu", "addon", 4],
    ["cpu", "open", 8],
    ["cpu", "create", 8],
    ["cpu", "load", 8],
    ["cpu", "forward", 16],
    ["cpu", "data", 8],
    ["cpu", "foreign", 8],
    ["simt", "forward", 6],
    ["simt", "split", 6],
  ] as const;

  test.each(sample)("end in errors or right numbers, on %s in %s", (device, phase, runs) => {
    const { status, stdout, stderr } = runScript("scripts/faults.mjs", [
      ...["--device", device, "--phase", phase, "--runs", String(runs)],
    ]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/error OUT_OF_MEMORY/);
    expect(stdout).toMatch(/\nfaults: \d+ runs, 0 failed\n$/);
  });

  test.each(["cpu", "simt"])("leave no numbers where work on %s failed, until it is written again", async (device) => {
    const lines = [
      "read again: OUT_OF_MEMORY",
      "a row of it: OUT_OF_MEMORY",
      "computed from it: OUT_OF_MEMORY",
      "its input: 1 1 1 1 1 1 1 1",
      "added to: OUT_OF_MEMORY",
      "overwritten: 1 2 3 10 20 30",
      "added to that: 2 4 6 20 40 60",
      "written again: 1 0 0 0 1 0",
      "computed from that: 0 1",
      "the same work: 8 8 8 8 8 8",
    ];
    const outcome = await runFixture("failed_output", device, [], { args: [preloaded], preload: preloaded });
    expect(outcome).toEqual(cleanExit(`${lines.join("\n")}\n`));
  });

  test("end in right numbers where a replay failed after the layer's first selection bias", async () => {
    const outcome = await runFixture("failed_replay", "simt", [], { args: [preloaded], preload: preloaded });
    expect(outcome).toEqual(cleanExit("OUT_OF_MEMORY: 2 2 2 2\n"));
  });
});

describe("npm run test:faults", () => {
  test("prints help and refuses what it does not know", () => {
    const help = runScript("scripts/faults.mjs", ["--help"]);
    expect(help).toMatchObject({
      status: 0,
      stderr: "",
      stdout: expect.stringContaining("Usage: npm run test:faults"),
    });
    for (const args of [["--frobnicate"], ["--device", "abacus"], ["--phase", "sleep"], ["--runs", "0"]]) {
      expect(runScript("scripts/faults.mjs", args)).toMatchObject({ status: 2, stdout: "" });
    }
  });

  test("goes through every phase on both devices", () => {
    const sweeps = runScript("scripts/faults.mjs", ["--list"]).stdout;
    for (const phase of ["load", "create", "forward", "offload", "budget", "capture", "data"]) {
      for (const device of ["cpu", "simt"]) expect(sweeps).toContain(`${device} ${phase}, memory: one`);
    }
  });
});

// Where memory is not there at all, which no allocator can be asked to pretend to V8.
describe.each(nativeDevices)("a limit of memory on %s", needs("Linux"), (device) => {
  test("is an error of reading, and the process goes on", async () => {
    const tensorBytes = 1 << 30;
    const noArray =
      "OUT_OF_MEMORY data: JavaScript has no memory for an array of N bytes; read the tensor in parts, with rows()";
    const lines = [`data: ${noArray}`, `dataSync: ${noArray}`, `raw: ${noArray}`, "write: done", "1 2 3"];
    const outcome = await runFixture("memory_limit", device, [], {
      args: [String(tensorBytes)],
      addressSpace: 2.5 * tensorBytes,
    });
    expect(outcome).toEqual(cleanExit(`${lines.join("\n")}\n`));
  });
});
