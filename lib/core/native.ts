import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import type { Backend, DeviceKind } from "./backend.js";
import { MoeError } from "./errors.js";
import type { Fields } from "./operators/field.js";
import { findPackage, packageRoot } from "./package_root.js";

/** How a device is opened. */
export interface DeviceOptions {
  /**
   * Threads that work on one operator (`cpu`, `simt`); default: the CPUs that this process may use. All `cpu` devices of a
   * process, in worker_threads too, share one pool: their operators run one after another, never on more threads at
   * once than the largest of them asks for. Beside it every device has one thread that runs its stream.
   */
  readonly threads?: number;
  /** Fill fresh memory with NaN patterns, so that a read of memory nobody wrote shows in the results. */
  readonly poison?: boolean;
  /**
   * On `cuda` and `simt`: round the factors of float32 expert products to tf32 (10 bits of mantissa), which the tensor cores
   * multiply many times faster; default false.
   */
  readonly tf32?: boolean;
  /**
   * Remember where in the program each operator is called. An error that surfaces at a later wait then has a `cause` whose
   * stack is that of the call that enqueued the failed work. Costs about a microsecond a call; default false. `reference`
   * works during the call, so its errors always have that stack.
   */
  readonly callSites?: boolean;
}

/** A device as `listDevices()` reports it. */
export interface DeviceInfo {
  readonly name: string;
  readonly kind: DeviceKind;
  readonly available: boolean;
  /** What it is, or why it is not here. */
  readonly detail: string;
}

/** How the native addon was built and what it found. */
export interface BuildInfo {
  readonly compiler: string;
  readonly buildType: string;
  readonly sanitizers: string;
  /** CUDA toolkit version, or empty where the build left CUDA out. */
  readonly cuda: string;
}

/** A row of a device's kernel table: a way to multiply tokens by expert weights. */
export interface KernelInfo {
  readonly device: string;
  readonly name: string;
  /** Dtypes of tokens that it takes. */
  readonly tokens: string;
  /** Format in which the weights are stored. */
  readonly format: string;
  /** How the weights are packed; part of the names of cache files. */
  readonly layout: string;
  /** What the CPU or GPU must have. */
  readonly needs: string;
  /** How products are formed and added. */
  readonly numbers: string;
  /** Dtypes of tokens for which it is used on this machine; empty where another row is, or what it needs is missing. */
  readonly chosen: string;
}

export interface CpuInfo {
  /** Processor name as it reports itself. */
  readonly model: string;
  /** CPUs that this process may use: affinity and container limits. */
  readonly usableCpus: number;
  /** Instruction-set paths that run here, best first. */
  readonly isas: readonly string[];
  /** The one in use: the best, or MOE_CPU_ISA. */
  readonly isa: string;
}

/** What this machine's CPUs reach, measured when asked. */
export interface Ceilings {
  /** float32 multiply-adds from registers, 10^9 operations a second; a multiply-add is two. */
  readonly fmaGflops: number;
  /** bfloat16 dot products from registers, likewise; 0 where the CPU has no such instruction. */
  readonly bf16Gflops: number;
  /** Reading memory in order, 10^9 bytes a second. */
  readonly readGBs: number;
}

/** The whole native addon, typed in one place. Its Device objects are {@link Backend}s. */
export interface NativeBinding {
  /** Hands over the error class; called once after loading. */
  initialize(errorClass: typeof MoeError): void;
  open(name: string, options: { [Name in keyof DeviceOptions]: DeviceOptions[Name] | undefined }): Backend;
  /** The operators of its devices: their names and fields, which lib/core/operators must match. */
  operators(): Readonly<Record<string, Fields>>;
  devices(): DeviceInfo[];
  /** The kernel tables of all devices of this build. */
  kernels(): KernelInfo[];
  buildInfo(): BuildInfo;
  cpuInfo(): CpuInfo;
  /** Measures with this many threads; takes about a second. */
  ceilings(threads: number): Promise<Ceilings>;
}

let loaded: NativeBinding | undefined;

/**
 * The native addon: MOE_KERNELS_BINARY where set, else the package's own, built from source or prebuilt for this platform.
 * Throws NOT_BUILT with remedies where there is none.
 */
export function loadNative(): NativeBinding {
  loaded ??= load();
  return loaded;
}

/** Where the prebuilt binary of this platform is, if the package has one: `prebuilds/linux-x64-glibc/...`. */
export function prebuiltPath(): string {
  return join(packageRoot(), "prebuilds", platformName(), "moe_kernels.node");
}

/** Name of this platform, such as `linux-x64-glibc`: one name for what can load the same binary. */
export function platformName(): string {
  if (process.platform !== "linux") return `${process.platform}-${process.arch}`;
  // Without it the report asks the name server for every open connection.
  Object.assign(process.report, { excludeNetwork: true });
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return `linux-${process.arch}-${report.header?.glibcVersionRuntime ? "glibc" : "musl"}`;
}

function load(): NativeBinding {
  const override = process.env.MOE_KERNELS_BINARY;
  if (!override && findPackage() === undefined) {
    throw notBuilt("this program is a bundle, and the package moe-kernels is not installed where it runs");
  }
  const candidates = override
    ? [resolve(override)]
    : [join(packageRoot(), "build", "Release", "moe_kernels.node"), prebuiltPath()];
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) throw notBuilt(`there is none: ${candidates.join(" and ")} do not exist`);
  try {
    const binding = createRequire(path)(path) as NativeBinding;
    binding.initialize(MoeError);
    return binding;
  } catch (cause) {
    if (cause instanceof MoeError) throw cause;
    throw notBuilt(`${path} does not load: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

function notBuilt(reason: string, cause?: unknown): MoeError {
  const root = findPackage();
  const log = root && join(root, "build", "install.log");
  const failure = log && existsSync(log) ? readFileSync(log, "utf8").trim().split("\n").slice(-12) : [];
  const message = [
    `the native addon cannot be loaded: ${reason}`,
    ...(failure.length > 0 ? ["The build at install ended with:", ...failure.map((line) => `  ${line}`)] : []),
    "What to do, one of:",
    ...(root === undefined ? ["  - npm install moe-kernels in the folder of the program"] : buildRemedy(root)),
    `  - set MOE_KERNELS_BINARY to a moe_kernels.node built for ${platformName()} and Node-API 9`,
    '  - use openDevice("reference"), which is slow but needs no addon',
  ].join("\n");
  return new MoeError("NOT_BUILT", message, cause === undefined ? undefined : { cause });
}

function buildRemedy(root: string): string[] {
  const setup = join(root, "scripts", "setup.mjs");
  const script = existsSync(setup) ? setup : join(root, "scripts", "install.mjs");
  return [
    "  - build it (npm may have been told not to run the install script); with CMake >= 3.22 and a C++20 compiler",
    "    (GCC >= 11 or Clang >= 14; tested on Linux x64) run",
    `    node "${script}"`,
  ];
}
