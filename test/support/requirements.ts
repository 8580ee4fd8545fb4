import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { TestOptions } from "vitest";
import { loadNative } from "../../lib/core/addon/native.js";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { platformName, platforms } from "../../lib/core/addon/platforms.js";
import { listDevices } from "../../lib/devices.js";
import { runScript } from "./run_script.js";

/** What a test that is left out lacks on this machine, and how to get it. */
export interface Lack {
  readonly requirement: string;
  readonly remedy: string;
}

declare module "vitest" {
  interface TaskMeta {
    /** Read by the reporter of tests that are left out. */
    lack?: Lack;
  }
}

const printed = (program: string, ...args: string[]) => spawnSync(program, args, { encoding: "utf8" }).stdout ?? "";
const runs = (...programs: string[]) => programs.every((program) => spawnSync(program, ["--version"]).status === 0);

function canBecomeOrdinary(): boolean {
  if (process.geteuid?.() !== 0) return true;
  try {
    process.seteuid?.(65534);
    process.seteuid?.(0);
    return true;
  } catch {
    return false;
  }
}

function hasCuda(): boolean {
  listDevices(); // loads the device's library
  return loadNative().buildInfo().cuda !== "";
}

/** What tests need of a machine: true where it is there, else how to get it. */
const requirements = {
  Linux: () => process.platform === "linux" || "run on Linux",
  x64: () => process.arch === "x64" || "run on x64",
  "a platform with packages": () =>
    Object.hasOwn(platforms, platformName()) || `run on ${Object.keys(platforms).join(" or ")}`,
  "/dev/null and /dev/zero": () => ["/dev/null", "/dev/zero"].every(existsSync) || "run on Linux or macOS",
  "/dev/full": () => existsSync("/dev/full") || "run on Linux",
  "5 GiB of memory": () => process.availableMemory() >= 5 * 2 ** 30 || "free memory, or raise the container's limit",
  "an ordinary user": () => canBecomeOrdinary() || "run as a user other than root",
  chromium: () => runs("chromium") || "apt-get install chromium",
  python3: () => runs("python3") || "apt-get install python3",
  clang: () => Number.parseInt(printed("clang++", "-dumpversion"), 10) >= 14 || "apt-get install clang (14 or later)",
  // Clang has an assembler of its own.
  "a compiler with an assembler": () =>
    spawnSync(process.env.CXX ?? "c++", ["-print-prog-name=as"]).status === 0 || "apt-get install g++",
  "cc and objdump": () => runs("cc", "objdump") || "apt-get install gcc binutils",
  // The compiler of the published packages.
  "GCC 12": () =>
    / 12\.\d+\.\d+$/.test(printed("c++", "--version").split("\n")[0] as string) || "make GCC 12 the compiler c++",
  nvcc: () => runs("nvcc", "ptxas") || "install the CUDA toolkit, with nvcc and ptxas on the PATH",
  "the device cuda": () => hasCuda() || "install the CUDA toolkit and run npm run setup",
  "compiler and emulator of AArch64": () => runScript("scripts/arm64.mjs", ["--missing"]).stdout.trim() || true,
  // The build makes it on Linux with glibc.
  "the library of faults": () =>
    existsSync(join(packageRoot(), "build", "Release", "moe_faults.node")) || "run npm run setup on Linux with glibc",
} satisfies Record<string, () => true | string>;

export type Requirement = keyof typeof requirements;

const found = new Map<Requirement, true | string>();

/** Whether it is there: looked for once in a process. */
function look(requirement: Requirement): true | string {
  const known = found.get(requirement) ?? requirements[requirement]();
  found.set(requirement, known);
  return known;
}

/** Options of tests that need all of these: the tests are left out where one is missing. */
export function needs(...all: readonly Requirement[]): TestOptions {
  for (const requirement of all) {
    const remedy = look(requirement);
    if (remedy !== true) return leftOut(requirement, remedy);
  }
  return {};
}

/** Options of tests that are left out, because what they need was looked for and not found. */
export function leftOut(requirement: string, remedy: string): TestOptions {
  return { skip: true, meta: { lack: { requirement, remedy } } };
}
