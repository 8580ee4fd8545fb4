import { describe, expect, test, vi } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import type { MoeError } from "../../lib/core/errors.js";
import { openDevice } from "../../lib/devices.js";
import { sort } from "../../lib/operators/routing/sort.js";
import { deviceNames } from "../support/devices.js";
import { expectError } from "../support/errors.js";

function sortIds(device: Device, ...ids: number[]): void {
  using tensor = device.tensor(Int32Array.from(ids), [1, ids.length]);
  for (const result of Object.values(sort(tensor, { numExperts: 4 }))) result.dispose();
}

function callOfTheTest(device: Device): void {
  sortIds(device, 0, 9);
}

/** The error that the next wait reports. */
async function failure(device: Device): Promise<MoeError> {
  return device.synchronize().then(
    () => expect.unreachable(),
    (error) => error as MoeError,
  );
}

const stackOf = (error: MoeError): string => (error.cause as Error | undefined)?.stack ?? "";

describe.each(deviceNames.filter((name) => name !== "reference"))("call sites on %s", (name) => {
  test("an error of enqueued work has the stack of the call as its cause", async () => {
    using device = openDevice(name, { callSites: true });
    sortIds(device, 0, 1);
    callOfTheTest(device);
    sortIds(device, 7, 7);
    const error = await failure(device);
    expect(error).toMatchObject({ code: "ID_OUT_OF_RANGE", message: expect.stringContaining("got 9") });
    expect(stackOf(error)).toMatch(/^Error: sort was called here\n/);
    expect(stackOf(error)).toContain("callOfTheTest");
    await device.synchronize();
  });

  test("so has an error reported by a read or a blocking wait", () => {
    using device = openDevice(name, { callSites: true });
    using other = device.zeros([1], "f32");
    callOfTheTest(device);
    expect(() => other.dataSync()).toThrow(
      expect.objectContaining({ cause: expect.objectContaining({ stack: expect.stringContaining("callOfTheTest") }) }),
    );
    callOfTheTest(device);
    expect(() => device.synchronizeSync()).toThrow(expect.objectContaining({ cause: expect.any(Error) }));
  });

  test("only the latest calls are remembered", async () => {
    using device = openDevice(name, { callSites: true });
    callOfTheTest(device);
    for (let call = 0; call < 1100; call++) sortIds(device, 0);
    const error = await failure(device);
    expect(error.message).toContain("got 9");
    expect(error.cause).toBeUndefined();
  });

  test("nothing is remembered unless it is asked for", async () => {
    using device = openDevice(name);
    callOfTheTest(device);
    expect((await failure(device)).cause).toBeUndefined();
  });

  test("MOE_KERNELS_CALL_SITES asks for it where a device is opened, unless an option says otherwise", async () => {
    vi.stubEnv("MOE_KERNELS_CALL_SITES", "1");
    try {
      using device = openDevice(name);
      callOfTheTest(device);
      expect(stackOf(await failure(device))).toContain("callOfTheTest");
      using other = openDevice(name, { callSites: false });
      callOfTheTest(other);
      expect((await failure(other)).cause).toBeUndefined();
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

test.each([
  ["", true],
  ["0", true],
  ["yes", false],
])("MOE_KERNELS_CALL_SITES=%s is accepted: %s", (value, accepted) => {
  vi.stubEnv("MOE_KERNELS_CALL_SITES", value);
  try {
    const open = () => openDevice("reference").dispose();
    if (accepted) open();
    else expectError(open, "INVALID_ARGUMENT", /^MOE_KERNELS_CALL_SITES: expected "0" or "1", got "yes"$/);
  } finally {
    vi.unstubAllEnvs();
  }
});

test("reference finds errors during the call", async () => {
  using device = openDevice("reference");
  callOfTheTest(device);
  expect((await failure(device)).stack).toContain("callOfTheTest");
});
