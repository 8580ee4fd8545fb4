import { afterAll, beforeAll } from "vitest";
import { type DeviceOptions, loadNative } from "../../lib/core/addon/native.js";
import type { Device } from "../../lib/core/device/device.js";
import { type DeviceName, listDevices, openDevice } from "../../lib/devices.js";

/** `reference`, `cpu` and `simt` always, so that tests fail if they are missing; GPUs if this machine has them. */
export const deviceNames: readonly DeviceName[] = [
  "reference",
  "cpu",
  "simt",
  ...listDevices()
    .filter((device) => device.available && device.kind === "cuda")
    .map((device) => device.name as DeviceName),
];

/** The instruction sets that this machine's CPU has code paths for, best first. */
export const isas: readonly string[] = loadNative().cpuInfo().isas;

/** A code path whose results are tested. */
export interface KernelPath {
  readonly label: string;
  open(options?: DeviceOptions): Device;
}

/** Every device, and `cpu` once with each instruction set; models of instructions only where those are missing. */
export const kernelPaths: readonly KernelPath[] = deviceNames.flatMap((name) =>
  name === "cpu"
    ? isas
        .filter((isa) => !isa.endsWith("_model") || !isas.includes(isa.slice(0, -"_model".length)))
        .map((isa) => ({
          label: `cpu with ${isa}`,
          open: (options?: DeviceOptions) => withIsa(isa, () => openDevice(name, options)),
        }))
    : [{ label: name, open: (options?: DeviceOptions) => openDevice(name, options) }],
);

/** Runs `work` so that a `simt` device opened by it has the kernels of GPUs of compute capability 9.0. */
export const asHopper = <T>(work: () => T): T => withVariable("MOE_GPU_CAPABILITY", "90", work);

/** Such a device. */
export const hopperPath: KernelPath = {
  label: "simt as Hopper",
  open: (options?: DeviceOptions) => asHopper(() => openDevice("simt", options)),
};

/** Runs `work` with MOE_CPU_ISA set, for the devices that it opens. */
export function withIsa<T>(isa: string, work: () => T): T {
  return withVariable("MOE_CPU_ISA", isa, work);
}

/** Runs `work` with an environment variable set. */
export function withVariable<T>(name: string, value: string, work: () => T): T {
  const before = process.env[name];
  process.env[name] = value;
  try {
    return work();
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}

/** A poisoned device that is open while the tests of the enclosing describe() run. */
export function openForTests(device: DeviceName | KernelPath, options: DeviceOptions = {}): () => Device {
  const open = typeof device === "string" ? (all: DeviceOptions) => openDevice(device, all) : device.open;
  let opened: Device | undefined;
  beforeAll(() => {
    opened = open({ poison: true, ...options });
  });
  afterAll(() => opened?.dispose());
  return () => {
    if (opened === undefined) throw new Error("the device is open only while tests run");
    return opened;
  };
}
