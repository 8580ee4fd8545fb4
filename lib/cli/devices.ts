import { type DeviceName, openDevice } from "../devices.js";

/** Opens and closes the named devices, so that a missing one is an error before any work on the others. */
export function checkDevices(names: readonly DeviceName[]): void {
  for (const name of new Set(names)) openDevice(name).dispose();
}
