import os from "node:os";
import { styleText } from "node:util";
import { isMoeError } from "../../core/errors.js";
import { type BuildInfo, type CpuInfo, type DeviceInfo, type KernelInfo, loadNative } from "../../core/native.js";
import { platformName } from "../../core/platforms.js";
import { printable } from "../../core/printable.js";
import { runtimeName } from "../../core/runtime.js";
import { packageVersion } from "../../core/version.js";
import { listDevices } from "../../devices.js";
import { formatBytes } from "../../terminal/format.js";
import { passMark } from "../../terminal/pass_mark.js";
import { renderTable } from "../../terminal/table.js";
import { defineCommand } from "../command.js";
import { type Io, writeJson } from "../io.js";

interface MachineInfo {
  readonly version: string;
  /** The version of Node, or the one that another runtime stands in for. */
  readonly node: string;
  /** The runtime and its version. */
  readonly runtime: string;
  readonly platform: string;
  readonly memoryBytes: number;
  readonly devices: readonly DeviceInfo[];
  /** What the native addon reports about the CPU and its build; null if it cannot be loaded. */
  readonly cpu: CpuInfo | null;
  readonly build: BuildInfo | null;
  /** Why the native addon cannot be loaded, and what to do; null if it loads. */
  readonly problem: string | null;
  /** Environment variables that may affect the package. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** `info`: what this machine and installation can do. */
export const info = defineCommand({
  synopsis: "[--kernels] [--json]",
  options: {
    kernels: { type: "boolean", help: "list the kernels of this build and which of them this machine uses" },
    json: { type: "boolean", help: "print JSON" },
  },
  async run(values, io) {
    if (values.kernels) {
      const kernels = loadNative().kernels();
      if (values.json) writeJson(io.stdout, kernels);
      else printKernels(kernels, io);
      return 0;
    }
    const machine = inspectMachine();
    if (values.json) writeJson(io.stdout, machine);
    else print(machine, io);
    return 0;
  },
});

function inspectMachine(): MachineInfo {
  const variables = Object.entries(process.env).filter(([name, value]) => name.startsWith("MOE_") && value);
  return {
    version: packageVersion,
    node: process.version,
    runtime: runtimeName(),
    platform: platformName(),
    memoryBytes: os.totalmem(),
    devices: listDevices(),
    ...inspectAddon(),
    environment: Object.fromEntries(variables),
  };
}

function inspectAddon(): Pick<MachineInfo, "cpu" | "build" | "problem"> {
  try {
    const native = loadNative();
    return { cpu: native.cpuInfo(), build: native.buildInfo(), problem: null };
  } catch (error) {
    if (!isMoeError(error, "NOT_BUILT")) throw error;
    return { cpu: null, build: null, problem: error.message };
  }
}

function print(machine: MachineInfo, io: Io): void {
  const { version, runtime, platform, memoryBytes, devices, cpu, build, problem, environment } = machine;
  const line = (name: string, text: string): void => {
    io.stdout.write(`${styleText("bold", name.padEnd(12), { stream: io.stdout })}${printable(text)}\n`);
  };
  line("moe-kernels", version);
  line("runtime", `${runtime} on ${platform}, ${formatBytes(memoryBytes)} of memory`);
  if (cpu) {
    line("cpu", `${cpu.model}, ${cpu.usableCpus} usable`);
    line("isa", `${cpu.isa} in use; runs here: ${cpu.isas.join(", ")}`);
    for (const { isa, reason } of cpu.missingIsas) line("not here", `${isa}: ${reason}`);
  }
  if (build) {
    const cuda = build.cuda ? `CUDA ${build.cuda}` : "without CUDA";
    const sanitizers = build.sanitizers ? `, sanitizers ${build.sanitizers}` : "";
    line("build", `${build.compiler}, ${build.buildType}, ${cuda}${sanitizers}`);
  }
  for (const [name, value] of Object.entries(environment)) line("environment", `${name}=${value}`);
  io.stdout.write("\n");
  for (const { name, available, detail } of devices) {
    io.stdout.write(`${passMark(available, io.stdout)} ${name.padEnd(10)}${printable(detail)}\n`);
  }
  if (problem !== null) io.stdout.write(`\n${problem}\n`);
}

function printKernels(kernels: readonly KernelInfo[], io: Io): void {
  io.stdout.write(
    renderTable(
      ["device", "kernel", "tokens", "weights", "layout", "needs", "numbers", "used here for"].map((heading) => ({
        heading,
      })),
      kernels.map(({ device, name, tokens, format, layout, needs, numbers, chosen }) => [
        device,
        name,
        tokens,
        format,
        layout,
        needs,
        numbers,
        chosen === "" ? "" : `✔ ${chosen}`,
      ]),
    ),
  );
}
