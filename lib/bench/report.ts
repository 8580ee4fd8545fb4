import type { Ceilings, ProductKernel } from "../core/addon/native.js";
import type { TokenFormat } from "../core/formats/token_format.js";
import type { WeightFormatName } from "../core/formats/weight_format.js";
import { plural } from "../terminal/format.js";
import type { OutputError } from "./contenders/check.js";
import type { Machine } from "./machine.js";
import type { Measurement } from "./measure.js";
import type { BenchDType } from "./operators/draw.js";

/** One contender beside us. */
export interface ContenderResult {
  /** What the contender calls itself. */
  readonly name: string;
  /** The errors of its first call. */
  readonly errors: readonly OutputError[];
  /** What was compared, such as "12 of 1024 rows"; empty if it was everything. */
  readonly of: string;
  /** Why it is not ranked: it threw, at first or while it was timed, or its results are wrong; else null. */
  readonly failure: string | null;
  /** Why it was not asked, or said that it does not support the case; else null. */
  readonly leftOut: string | null;
  /** Seconds of a call, until its results were there. */
  readonly total: Measurement | null;
  /** Its time divided by ours, over the rounds. */
  readonly timesOurs: Measurement | null;
}

/** One case: times in seconds, and derived numbers. */
export interface BenchResult {
  /** `layer`, or an operator's name with more if it has several cases. */
  readonly name: string;
  /** T */
  readonly tokens: number;
  /** Floating-point operations of one call; a multiply-add is two. */
  readonly operations: number;
  /** Bytes that one call must move. */
  readonly bytes: number;
  /** From the call until its results are ready. */
  readonly total: Measurement;
  /** Until the call returns: checks and enqueuing. */
  readonly call: Measurement;
  /** How long the device worked; null on `reference`, which works within the call. */
  readonly device: Measurement | null;
  /** 10^9 operations a second, by the device's time where there is one. */
  readonly gflops: number;
  /** 10^9 bytes a second, by the same time. */
  readonly gbs: number;
  /**
   * How fast memory read, in 10^9 bytes a second: the median over the rounds if the case reads weights that no cache holds, else that
   * of the ceilings; null on other devices than `cpu`.
   */
  readonly readGBs: number | null;
  /** Lower bound on the time, set by the read rate and the peaks, the median over the rounds; null on devices whose ceilings are not measured. */
  readonly floor: number | null;
  /** floor / time on the device, the median over the rounds: 1 is the ceiling; above 1, data came from a cache. */
  readonly ofCeiling: number | null;
  /** The errors of our own first call; null if there were no contenders to compare with. */
  readonly errors: readonly OutputError[] | null;
  /**
   * The time divided by that of the first dtype and format of the shape, with which it took turns, over the rounds; null for the first
   * itself, and for what was timed apart.
   */
  readonly timesFirst: Measurement | null;
  /** Why it did not take turns with the first dtype and format; null if it did. */
  readonly apart: string | null;
  /** Those that have the operator. */
  readonly contenders: readonly ContenderResult[];
}

/** The results of one shape, dtype, format and number of threads. */
export interface BenchGroup {
  /** Its name, or its sizes. */
  readonly shape: string;
  /** The dtype of tokens. */
  readonly dtype: BenchDType;
  /** The format of the experts' weights. */
  readonly format: WeightFormatName;
  /** What products round tokens to. */
  readonly tokenFormat: TokenFormat;
  /** Threads of the device. */
  readonly threads: number;
  /** The better of those before and after; null on other devices than `cpu`. */
  readonly ceilings: Ceilings | null;
  /** What multiplies tokens by the experts' weights; null on other devices than `cpu`. */
  readonly kernel: ProductKernel | null;
  /** Every case. */
  readonly results: readonly BenchResult[];
}

/** What {@link runBenchmark} measured; as JSON, a result file. */
export interface BenchReport {
  /** Tells a result file from others. */
  readonly kind: "moe-kernels bench";
  /** Where and with what it was measured. */
  readonly machine: Machine;
  /** The device's name. */
  readonly device: string;
  /** What the device is. */
  readonly description: string;
  /** Turns that the time of a case was divided into. */
  readonly rounds: number;
  /** Calls between two waits. */
  readonly calls: number;
  /** By shape, dtype, format and threads. */
  readonly groups: readonly BenchGroup[];
}

/** What a group is. */
export type GroupName = Pick<BenchGroup, "shape" | "dtype" | "format" | "tokenFormat" | "threads">;

/** A group in words. */
export function groupText({ shape, dtype, format, tokenFormat, threads }: GroupName): string {
  return `${shape} ${numbersText({ dtype, format, tokenFormat })}, ${plural(threads, "thread")}`;
}

/** What tells a group from others of its shape. */
export function numbersText({ dtype, format, tokenFormat }: Pick<BenchGroup, "dtype" | "format" | "tokenFormat">) {
  const weights = format === dtype ? "" : `, weights ${format}`;
  const tokens = tokenFormat === "none" ? "" : `, tokens rounded to ${tokenFormat}`;
  return `${dtype}${weights}${tokens}`;
}

/** Groups that take turns, in words. */
export function groupsText(groups: readonly GroupName[]): string {
  const [first, ...others] = groups as [GroupName, ...GroupName[]];
  if (others.length === 0) return groupText(first);
  return `${first.shape}, ${groups.length} formats in turns, ${plural(first.threads, "thread")}`;
}

/** The groups of a report that took turns: those of a shape and a number of threads, which follow each other. */
export function groupsInTurns(groups: readonly BenchGroup[]): readonly (readonly BenchGroup[])[] {
  const all: BenchGroup[][] = [];
  for (const group of groups) {
    const last = all.at(-1)?.at(-1);
    if (last?.shape === group.shape && last.threads === group.threads) all.at(-1)?.push(group);
    else all.push([group]);
  }
  return all;
}
