import { describe, expect, test } from "vitest";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomLayer, writeOne } from "../checkpoint/support/gguf_layer.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { isas } from "../support/devices.js";
import { needs } from "../support/requirements.js";
import { cleanExit, nativeDevices, runFixture } from "./run_fixture.js";

/** The thread of a stream computes. On a GPU it only enqueues, and is done at once. */
const computingDevices = nativeDevices.filter((device) => !device.startsWith("cuda"));

describe.each(nativeDevices)("a process with %s", (device) => {
  test("ends by itself with an open device", async () => {
    expect(await runFixture("open_device", device)).toEqual(cleanExit("8 8 8 8 8 8\n"));
  });

  test("ends by itself with work that nobody waits for", async () => {
    expect(await runFixture("enqueued", device)).toEqual(cleanExit(""));
  });

  test("stays alive until a wait is over", async () => {
    expect(await runFixture("awaited", device)).toEqual(cleanExit("32768 true\n"));
  });

  test("exits with work in flight", async () => {
    expect(await runFixture("exit_in_flight", device)).toEqual(cleanExit("in flight\n"));
  });

  test("reports an uncaught error with work in flight", async () => {
    const { code, signal, stdout, stderr } = await runFixture("throw_in_flight", device);
    expect({ code, signal, stdout }).toEqual({ code: 1, signal: null, stdout: "in flight\n" });
    expect(stderr).toContain("Error: thrown with work in flight");
  });

  test("starts other processes while it works: forked, spawned, and spawned synchronously", async () => {
    expect(await runFixture("child_processes", device)).toEqual(cleanExit("8 8 8 8\n"));
  });
});

describe.each(computingDevices)("dispose() of a working %s device", needs("Linux"), (device) => {
  test("returns while the stream ends", async () => {
    expect(await runFixture("dispose_in_flight", device)).toEqual(cleanExit("1 at work\nDISPOSED\nended\n"));
  });
});

describe.each(computingDevices)("collection of a working %s device", needs("Linux"), (device) => {
  test("does not wait for its stream", async () => {
    const outcome = await runFixture("collected_in_flight", device, ["--expose-gc"]);
    expect(outcome).toEqual(cleanExit("1 at work\nended\n"));
  });
});

describe.each(nativeDevices)("worker threads with %s", (device) => {
  test("load the addon concurrently and repeatedly", async () => {
    expect(await runFixture("workers", device)).toEqual(cleanExit("1:0 2:0 3:0 4:0 8\n".repeat(2)));
  });

  test("end, or are terminated, with layers of a shared budget", async () => {
    expect(await runFixture("shared_budget", device)).toEqual(cleanExit("true 0\ntrue\n"));
  });

  test("can be terminated mid-work", async () => {
    const expected = "async 1\nsync 1\nnone 1\n8 8 8 8 8 8\n";
    expect(await runFixture("terminate", device)).toEqual(cleanExit(expected));
  });

  test("can be terminated while they load a GGUF file", async () => {
    using directory = temporaryDirectory();
    const { file } = randomLayer(new Random("terminate"), { gate: "IQ2_XXS", inner: 1024, experts: 16 });
    const args = [writeOne(directory.path, file)];
    expect(await runFixture("terminate_load", device, [], { args })).toEqual(cleanExit("true\n"));
  });
});

describe("environment variables of a worker thread", () => {
  test.each([
    ["cpu", "MOE_CPU_ISA", isas[0] as string, "portable"],
    ["simt", "MOE_SIMT_SEED", "76", "77"],
  ])("are those that %s is opened with there", async (device, ...args) => {
    expect(await runFixture("worker_variables", device, [], { args })).toEqual(cleanExit("true\ntrue\n"));
  });
});

describe("threads of cpu devices", needs("Linux"), () => {
  test("share one pool per process, and have a stream each", async () => {
    const outcome = await runFixture("threads", "cpu", ["--expose-gc"]);
    expect(outcome).toEqual(cleanExit("2 workers, 5 streams\n0 workers, 0 streams\n"));
  });
});
