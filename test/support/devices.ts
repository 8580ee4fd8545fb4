import { afterAll, beforeAll } from "vitest";
import { type Device, type DeviceName, listDevices, openDevice } from "../../lib/device.js";
import type { DeviceOptions } from "../../lib/native.js";

/** `reference` and `cpu` are everywhere: where they are missing, tests fail. The others where this machine has them. */
export const deviceNames: readonly DeviceName[] = [
  "reference",
  "cpu",
  ...listDevices()
    .filter((device) => device.available && (device.name === "simt" || device.kind === "cuda"))
    .map((device) => device.name as DeviceName),
];

/** A poisoned device that is open while the tests of the enclosing describe() run. */
export function openForTests(name: DeviceName, options: DeviceOptions = {}): () => Device {
  let device: Device | undefined;
  beforeAll(() => {
    device = openDevice(name, { poison: true, ...options });
  });
  afterAll(() => device?.dispose());
  return () => {
    if (device === undefined) throw new Error(`device ${name} is open only while tests run`);
    return device;
  };
}
