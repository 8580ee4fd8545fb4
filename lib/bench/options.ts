import { type TokenFormat, tokenFormats } from "../core/formats/token_format.js";
import type { WeightFormatName } from "../core/formats/weight_format.js";
import {
  callback,
  choice,
  type Fields,
  integer,
  list,
  object,
  optional,
  positive,
  record,
  text,
  unchecked,
} from "../core/input/options.js";
import type { DeviceName } from "../devices.js";
import type { MoeLayerConfig } from "../layer/description/config.js";
import type { Subject } from "../testing/subject/subject.js";
import type { BenchDType } from "./operators/draw.js";

export const benchDTypes = ["f32", "f16", "bf16"] as const satisfies readonly BenchDType[];

/** Options of {@link runBenchmark}. */
export interface BenchmarkOptions {
  /** Layers to time by names of your choice. */
  shapes: Readonly<Record<string, MoeLayerConfig>>;
  /** Default cpu. */
  device?: DeviceName | undefined;
  /** The dtypes of tokens; default bf16. */
  dtypes?: readonly BenchDType[] | undefined;
  /** The formats of the experts' weights; default that of the tokens. */
  formats?: readonly WeightFormatName[] | undefined;
  /** What products with quantised weights round tokens to; default none. */
  tokenFormats?: readonly TokenFormat[] | undefined;
  /** T of each call; default 1, 8, 64 and 512. */
  tokens?: readonly number[] | undefined;
  /** Threads of the device, one device for each number; default all CPUs. */
  threads?: readonly number[] | undefined;
  /** Only cases whose names contain one of these texts; default all. */
  operators?: readonly string[] | undefined;
  /** Approximate time for each case and contender; default 0.3. */
  seconds?: number | undefined;
  /** Turns that this time is divided into, at most a million; default 7. */
  rounds?: number | undefined;
  /** Calls between two waits, at most a million; default 1. */
  calls?: number | undefined;
  /** Bytes of the copies of the weights that calls rotate through. Default twice the last-level cache, at least 256 MiB. */
  weightBytes?: number | undefined;
  /**
   * Bytes that the weights of all dtypes and formats that take turns may have together; those that do not fit are timed apart. Default
   * 60 % of the memory that the system has left.
   */
  memoryBytes?: number | undefined;
  /** Other implementations, as `moe-kernels/testing` takes them. */
  contenders?: readonly Subject[] | undefined;
  /** Called before each case, and once after the last one of a shape. */
  onProgress?: ((progress: BenchProgress) => void) | undefined;
}

/** Where a benchmark is. */
export interface BenchProgress {
  /** Shape, dtype and so on, or how many formats take turns. */
  readonly group: string;
  /** Cases done. */
  readonly done: number;
  /** Cases of all formats that take turns. */
  readonly total: number;
}

/** The most rounds, whose times are all kept, and the most calls between two waits, which a device's stream holds until then. */
export const mostTurns = 1_000_000;

/** The share of the free memory for weights; the rest is for inputs, results, files and packing. */
export const memoryShare = 0.6;

/** Read before the others, so that contenders are closed where one of those is wrong. */
export const contendersOption = optional(list(unchecked), []);

export const benchmarkOptions = object(
  {
    shapes: record(unchecked, "{ D: { hiddenSize: 512, ... } }"),
    device: optional(text, "cpu"),
    dtypes: optional(list(choice(benchDTypes)), ["bf16"]),
    formats: optional(list(text)),
    tokenFormats: optional(list(choice(tokenFormats)), ["none"]),
    tokens: optional(list(integer(1)), [1, 8, 64, 512]),
    threads: optional(list(integer(1, 4096))),
    operators: optional(list(text), [""]),
    seconds: optional(positive, 0.3),
    rounds: optional(integer(1, mostTurns), 7),
    calls: optional(integer(1, mostTurns), 1),
    weightBytes: optional(integer(0)),
    memoryBytes: optional(integer(0)),
    contenders: contendersOption,
    onProgress: optional(callback<NonNullable<BenchmarkOptions["onProgress"]>>(), () => {}),
  } satisfies Fields<BenchmarkOptions>,
  "{ shapes: { D: { hiddenSize: 512, ... } } }",
);
export type ReadOptions = ReturnType<typeof benchmarkOptions>;

/** The option `memoryBytes`, or its default. */
export function memoryLimit({ memoryBytes }: Pick<ReadOptions, "memoryBytes">): number {
  return memoryBytes ?? Math.floor(memoryShare * process.availableMemory());
}
