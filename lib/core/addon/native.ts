import type { Backend, DeviceKind, OffloadRule, OffloadStats } from "../device/backend.js";
import { MoeError } from "../errors.js";
import type { TokenFormat } from "../formats/token_format.js";
import type { WeightFormat } from "../formats/weight_format.js";
import type { Fields } from "../operators/field.js";
import type { FloatDType } from "../tensors/dtype.js";
import { findAddons } from "./addon_files.js";
import { notBuilt } from "./not_built.js";
import type { LibraryKind } from "./platforms.js";

/** Options for opening a device. */
export interface DeviceOptions {
  /**
   * Threads that work on one operator (`cpu`, `simt`); default: the CPUs that this process may use. All `cpu` devices
   * of a process, including those in worker_threads, share one pool: their operators run one after another and never
   * use more threads than the largest `threads` among them. In addition, every device has one thread that runs its
   * stream.
   */
  readonly threads?: number | undefined;
  /** Fill new memory with NaN patterns, so that reads of uninitialised memory show in the results; default false. */
  readonly poison?: boolean | undefined;
  /**
   * On `cuda` and `simt`: round the operands of float32 expert products to tf32 (10 bits of mantissa), which tensor
   * cores multiply many times faster; default false.
   */
  readonly tf32?: boolean | undefined;
  /**
   * On `cuda` and `simt`: multiply fp8 tokens and e4m3 weights on fp8 tensor cores, which GPUs of compute capability 8.9, 9.0
   * and from 12.0 on have. They multiply twice as much as for bfloat16 in the same time, but their sums keep only about 13 bits; those
   * of up to 128 products are then scaled and added in float32. Default false: float32 sums.
   */
  readonly fp8Sums?: boolean | undefined;
  /**
   * On `cuda`: the CUDA stream to work on, a cudaStream_t as a bigint, for an engine that has one; default one of the device's
   * own. It must be one of this GPU, the same on every thread (not cudaStreamPerThread), and outlive the device: destroy it
   * after `await device.close()`. Tensors that are collected later do not need it. Work is put on it in the order of the
   * calls, by a thread of the device: see {@link Device.submitted}. While it is captured, work is refused.
   */
  readonly stream?: bigint | undefined;
  /**
   * Record the stacks of the latest 1024 calls that enqueue work. An error that surfaces at a later wait then has a
   * `cause` whose stack is that of the call that enqueued the failed work. Costs about a microsecond a call; default
   * false, or true if MOE_KERNELS_CALL_SITES=1. `reference` computes during the call, so its errors always have that
   * stack.
   */
  readonly callSites?: boolean | undefined;
}

/** A device as `listDevices()` reports it. */
export interface DeviceInfo {
  /** What {@link openDevice} opens it by. */
  readonly name: string;
  /** Its kind. */
  readonly kind: DeviceKind;
  /** Whether it can be opened here. */
  readonly available: boolean;
  /** What it is, or why it is unavailable. */
  readonly detail: string;
}

/** How the native addon was built. */
export interface BuildInfo {
  /** The compiler's name and version. */
  readonly compiler: string;
  /** CMake's build type. */
  readonly buildType: string;
  /** The sanitizers that it was built with; empty if none. */
  readonly sanitizers: string;
  /** The CUDA toolkit that built the library of the `cuda` device; empty unless it is loaded. */
  readonly cuda: string;
}

/** A row of a device's kernel table: one kernel that multiplies tokens by expert weights. */
export interface KernelInfo {
  readonly device: string;
  readonly name: string;
  /** Dtypes of tokens that it accepts. */
  readonly tokens: string;
  /** Format in which the weights are stored. */
  readonly format: string;
  /** How the weights are packed; part of the names of cache files. */
  readonly layout: string;
  /** What the CPU or GPU must support. */
  readonly needs: string;
  /** The precision of products and sums. */
  readonly numbers: string;
  /** Dtypes of tokens for which this machine uses it; empty if it cannot run here or another row is preferred. */
  readonly chosen: string;
}

/** An instruction set of this build that is not used here. */
export interface MissingIsa {
  /** The instruction set's name. */
  readonly isa: string;
  /** Why this machine has no use of it. */
  readonly reason: string;
}

/** The processor, and what the `cpu` device uses of it. */
export interface CpuInfo {
  /** The processor's name as the CPU reports it. */
  readonly model: string;
  /** CPUs that this process may use, given affinity and container limits. */
  readonly usableCpus: number;
  /** Instruction sets that this CPU can run, best first. */
  readonly isas: readonly string[];
  /** The other ones of this build, and why this machine has no use of them. */
  readonly missingIsas: readonly MissingIsa[];
  /** The one in use: MOE_CPU_ISA if set, else the best. */
  readonly isa: string;
}

/** The kernel of the `cpu` device that multiplies tokens by weights of a format. */
export interface ProductKernel {
  /** Instruction set and row of its kernel table, as `moe-kernels info --kernels` names them. */
  readonly name: string;
  /** Which peak bounds it: `fmaGflops`, `bf16Gflops` or `int8Gops` of {@link Ceilings}. */
  readonly peak: "fma" | "bf16" | "int8";
  /** Products at that rate which one multiply-add takes: more than one if numbers are multiplied in parts. */
  readonly products: number;
}

/** Measured peak performance of this machine's CPUs in the instruction set in use. */
export interface Ceilings {
  /** float32 multiply-adds from registers, 10^9 operations a second; a multiply-add is two. */
  readonly fmaGflops: number;
  /** bfloat16 multiply-adds in the same way, where the instruction set has them; else 0. */
  readonly bf16Gflops: number;
  /** Multiply-adds of bytes in the same way, by the fastest instructions for them. */
  readonly int8Gops: number;
  /** Reading memory in order, 10^9 bytes a second. */
  readonly readGBs: number;
}

/** All exports of the native addon. Its Device objects are {@link Backend}s. */
export interface NativeBinding {
  /** Gives the addon the error class to throw and the environment variables for devices; called once after loading. */
  initialize(errorClass: typeof MoeError, variables: () => Readonly<Record<string, string>>): void;
  open(name: string, options: { [Name in keyof DeviceOptions]: DeviceOptions[Name] | undefined }): Backend;
  /** The names and fields of its operators, which lib/core/operators must match. */
  operators(): Readonly<Record<string, Fields>>;
  /** The description of a weight format, as lib/core/formats/weight_formats.ts has it; null if it has none of this name. */
  weightFormat(name: string): WeightFormat | null;
  /**
   * What a layer of `experts` experts with offload does in calls that use the experts ids[ends[i - 1]] .. ids[ends[i] - 1],
   * in any order and repeated or not. Ids that are no expert's are ignored. Sizes are in experts.
   */
  replayOffload(experts: number, rule: OffloadRule, ids: Int32Array, ends: Int32Array): OffloadStats;
  /** Reads the codes of `blocks` blocks of a GGUF type on a thread of its own. The arrays stay here until then. */
  convertGgufCodes(type: string, blocks: number, from: Uint8Array, codes: Uint8Array): Promise<void>;
  /** Loads a device's library, once for the process. */
  loadDevice(kind: LibraryKind, file: string): void;
  /** `cpu`, and the devices of the libraries that are loaded. */
  devices(): DeviceInfo[];
  /** The kernel tables of these devices. */
  kernels(): KernelInfo[];
  buildInfo(): BuildInfo;
  cpuInfo(): CpuInfo;
  /** @param weights name of a weight format. */
  productKernel(tokens: FloatDType, tokenFormat: TokenFormat, weights: string): ProductKernel;
  /** Measures with this many threads, each ceiling for about this many seconds. */
  ceilings(threads: number, seconds: number): Promise<Ceilings>;
  /** The last of them alone: 10^9 bytes a second. */
  readRate(threads: number, seconds: number): Promise<number>;
}

let loaded: { readonly binding: NativeBinding; readonly file: string } | undefined;

/**
 * The native addon: MOE_KERNELS_BINARY if set, else a build of this machine's own, else this platform's package.
 * @throws NOT_BUILT, saying what to do, if there is none or none loads.
 */
export function loadNative(): NativeBinding {
  loaded ??= load();
  return loaded.binding;
}

/** The addon's file. */
export function loadedFile(): string {
  loaded ??= load();
  return loaded.file;
}

/** The addon if something has loaded it. */
export function loadedNative(): NativeBinding | undefined {
  return loaded?.binding;
}

function load(): NonNullable<typeof loaded> {
  const { files, missing } = findAddons();
  const failures: unknown[] = [];
  for (const file of files) {
    try {
      return { binding: open(file), file };
    } catch (cause) {
      if (cause instanceof MoeError) throw cause;
      // From before the addon had the error class.
      const { code, message } = cause as { code?: unknown; message: string };
      if (code === "OUT_OF_MEMORY" || code === "INTERNAL") throw new MoeError(code, message, { cause });
      missing.push(`${file} does not load: ${message ?? cause}`);
      failures.push(cause);
    }
  }
  throw notBuilt(missing, failures[0]);
}

function open(file: string): NativeBinding {
  // Not by require, which would give the same addon to every copy of this module in a process, such as one within a bundle:
  // the copy that loaded it last would then have the errors of all in its own class.
  const addon: { exports: Partial<NativeBinding> } = { exports: {} };
  process.dlopen(addon, file);
  const binding = addon.exports as NativeBinding;
  binding.initialize(MoeError, variablesOfDevices);
  return binding;
}

/**
 * The environment variables for devices, as this thread has them. The addon does not ask the system for one, which could
 * end the process while JavaScript sets another on another thread.
 */
function variablesOfDevices(): Readonly<Record<string, string>> {
  const set = Object.entries(process.env).filter(
    ([name]) => name.startsWith("MOE_") || name === "CUDA_VISIBLE_DEVICES",
  );
  return Object.fromEntries(set) as Record<string, string>;
}
