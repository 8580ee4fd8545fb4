import { listNative, openNative } from "./core/addon/device_libraries.js";
import type { DeviceInfo, DeviceOptions } from "./core/addon/native.js";
import { Device } from "./core/device/device.js";
import { invalidArgument, isMoeError, MoeError, messageOf } from "./core/errors.js";
import { boolean, type Fields, integer, object, optional, type Read, unsigned64 } from "./core/input/options.js";
import { openReference } from "./reference/backend.js";

/** A device's name. `auto` opens the first CUDA GPU that can be used, else the CPU. */
export type DeviceName = "auto" | "cpu" | "cuda" | `cuda:${number}` | "simt" | "reference";

/** The null handle is the legacy default stream, which waits for all others and cannot be told from none. */
const cudaStream = unsigned64(1n, "a cudaStream_t other than null, as a bigint");

const deviceOptions = object(
  {
    threads: optional(integer(1, 4096)),
    poison: optional(boolean, false),
    tf32: optional(boolean, false),
    fp8Sums: optional(boolean, false),
    stream: optional(cudaStream),
    callSites: optional(boolean),
  } satisfies Fields<DeviceOptions>,
  "{ threads: 4 }",
);
type ReadDeviceOptions = Read<typeof deviceOptions> & { readonly callSites: boolean };

/**
 * Opens a device.
 * @throws DEVICE_UNAVAILABLE, with the reason, if this machine or build does not have the device; NOT_BUILT if the
 * native addon is missing (`reference` works without it); OUT_OF_MEMORY, also if the system starts no more threads;
 * UNSUPPORTED_OPERATION for a CUDA stream on another device; INVALID_ARGUMENT.
 */
export function openDevice(name: DeviceName = "auto", options: DeviceOptions = {}): Device {
  if (typeof name !== "string") throw invalidArgument("name", "a device name", name);
  const { callSites = wantsCallSites(), ...given } = deviceOptions(options, "options");
  const read = { ...given, callSites };
  return name === "auto" ? openAuto(read) : openNamed("name", name, read);
}

/** What MOE_KERNELS_CALL_SITES says. */
function wantsCallSites(): boolean {
  const { MOE_KERNELS_CALL_SITES: text = "" } = process.env;
  if (!["", "0", "1"].includes(text)) throw invalidArgument("MOE_KERNELS_CALL_SITES", '"0" or "1"', text);
  return text === "1";
}

/** Opens a device by name; `source` says in errors where the name came from. */
function openNamed(source: string, name: string, options: ReadDeviceOptions, reason = ""): Device {
  if (!/^(reference|cpu|simt|cuda(:\d+)?)$/.test(name)) {
    throw invalidArgument(source, '"auto", "cpu", "cuda", "cuda:0", "simt" or "reference"', name);
  }
  return open(name, options, reason);
}

function open(name: string, options: ReadDeviceOptions, reason: string): Device {
  if (options.stream !== undefined && !name.startsWith("cuda")) {
    const why = reason === "" ? "" : ` (${reason})`;
    throw new MoeError(
      "UNSUPPORTED_OPERATION",
      `stream: expected a cuda device to work on a CUDA stream, got ${name}${why}`,
    );
  }
  return new Device(name, name === "reference" ? openReference(options) : openNative(name, options), reason);
}

/** Every device that this package knows: whether it is available, and why or why not. */
export function listDevices(): DeviceInfo[] {
  const reference: DeviceInfo = {
    name: "reference",
    kind: "reference",
    available: true,
    detail: "pure TypeScript, float64 inside; the definition of every operator",
  };
  try {
    return [reference, ...listNative()];
  } catch (error) {
    const detail = messageOf(error).split("\n")[0] as string;
    const missing = (["cpu", "simt", "cuda"] as const).map((kind) => ({ name: kind, kind, available: false, detail }));
    return [reference, ...missing];
  }
}

function openAuto(options: ReadDeviceOptions): Device {
  const wanted = process.env.MOE_KERNELS_DEVICE;
  if (wanted && wanted !== "auto") {
    return openNamed("MOE_KERNELS_DEVICE", wanted, options, `MOE_KERNELS_DEVICE=${wanted}`);
  }
  const refusals: string[] = [];
  for (const { name, available, detail } of listNative(["cuda"])) {
    if (!available) {
      refusals.push(detail);
      continue;
    }
    try {
      return open(name, options, [detail, ...refusals.map((refusal) => `not ${refusal}`)].join("; "));
    } catch (error) {
      // Some causes show only in use: no kernels for this GPU, a driver that is too old for them, another process's GPU.
      if (!isMoeError(error, "DEVICE_UNAVAILABLE")) throw error;
      refusals.push(error.message);
    }
  }
  return open("cpu", options, `no CUDA device: ${refusals.join("; ")}`);
}
