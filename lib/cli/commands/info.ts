import os from "node:os";
import { styleText } from "node:util";
import { listKernels } from "../../core/addon/device_libraries.js";
import { type BuildInfo, type CpuInfo, type DeviceInfo, type KernelInfo, loadNative } from "../../core/addon/native.js";
import { platformName } from "../../core/addon/platforms.js";
import { runtimeName } from "../../core/addon/runtime.js";
import { packageVersion } from "../../core/addon/version.js";
import { isMoeError } from "../../core/errors.js";
import { printable } from "../../core/text/printable.js";
import { listDevices } from "../../devices.js";
import { formatBytes } from "../../terminal/format.js";
import { UsageError } from "../../terminal/option_values.js";
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

/** `info`: what this machine and installation can do, and which models the package knows. */
export const info = defineCommand({
  synopsis: "[--kernels | --families] [--json]",
  options: {
    families: { type: "boolean", help: "list the families of models that can be loaded" },
    kernels: { type: "boolean", help: "list the kernels of this build and which of them this machine uses" },
    json: { type: "boolean", help: "print JSON" },
  },
  async run({ kernels, families, json }, io) {
    if (kernels && families) throw new UsageError("--kernels cannot be combined with --families");
    const show = <T>(found: T, print: (found: T, io: Io) => void) =>
      json ? writeJson(io.stdout, found) : print(found, io);
    if (kernels) show(listKernels(), printKernels);
    else if (families) show(await listFamilies(), printFamilies);
    else show(inspectMachine(), printMachine);
    return 0;
  },
});

/** The names of the families that can be loaded, as config.json and GGUF files have them. */
interface Families {
  readonly modelTypes: readonly string[];
  readonly architectures: readonly string[];
}

async function listFamilies(): Promise<Families> {
  const { families } = await import("../../checkpoint/families/registry.js");
  const { architectureNames } = await import("../../checkpoint/gguf/architectures.js");
  return { modelTypes: [...families.keys()].toSorted(), architectures: architectureNames.toSorted() };
}

function printFamilies({ modelTypes, architectures }: Families, { stdout }: Io): void {
  const list = (heading: string, names: readonly string[]): void => {
    stdout.write(`${styleText("bold", heading, { stream: stdout })}\n${names.map((name) => `  ${name}\n`).join("")}`);
  };
  list("model_type in config.json", modelTypes);
  list("general.architecture in GGUF files", architectures);
}

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

function printMachine(machine: MachineInfo, io: Io): void {
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
    const cuda = build.cuda ? `CUDA ${build.cuda}` : "no library of cuda";
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
