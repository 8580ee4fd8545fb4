import { describe, expect, test } from "vitest";
import { needs } from "../support/requirements.js";
import { cleanExit, nativeDevices, runFixture } from "./run_fixture.js";

describe.each(nativeDevices)("memory of %s", (device) => {
  test("and threads do not grow with devices and layers that are disposed", async () => {
    const outcome = await runFixture("cycles", device, ["--expose-gc"]);
    expect(outcome).toEqual(cleanExit(outcome.stdout));
    const { cycles, grownMiB, grownThreads } = JSON.parse(outcome.stdout);
    expect(cycles).toBeGreaterThanOrEqual(400);
    // Leaking the weights of one layer per cycle, of 384 KiB, would be 150 MiB or more.
    expect(grownMiB).toBeLessThan(40);
    // Allow for threads of Node's own.
    expect(grownThreads).toBeLessThan(5);
  });

  test("is freed by the garbage collector if tensors are not disposed of", async () => {
    const outcome = await runFixture("undisposed_tensors", device);
    expect(outcome).toEqual(cleanExit(outcome.stdout));
    expect(JSON.parse(outcome.stdout).highestMiB).toBeLessThan(2048);
  });

  test("and its threads go with devices that are collected", needs("Linux"), async () => {
    expect(await runFixture("collected_devices", device, ["--expose-gc"])).toEqual(cleanExit("ended\n"));
  });
});
