import { type DeviceName, openDevice } from "../../devices.js";
import { aboutOptions } from "../about_options.js";

/**
 * Opens and closes the named devices, so that a missing one is an error before any work on the others.
 * @throws UsageError for what is no name of a device.
 */
export function checkDevices(names: readonly DeviceName[]): void {
  for (const name of new Set(names)) {
    try {
      openDevice(name).dispose();
    } catch (error) {
      throw aboutOptions(error, (parameter) => (parameter === "name" ? "--device" : undefined));
    }
  }
}
