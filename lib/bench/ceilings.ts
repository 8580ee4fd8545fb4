import { type Ceilings, loadNative, type ProductKernel } from "../core/addon/native.js";
import { type Fields, integer, object, optional, positive } from "../core/input/options.js";
import { significant } from "../terminal/format.js";
import type { BenchCase } from "./bench_case.js";
import { ratios, summarize } from "./measure.js";

/** Options of {@link measureCeilings}. */
export interface CeilingOptions {
  /** Default: the CPUs that this process may use. */
  threads?: number | undefined;
  /** Approximate time for each ceiling; default 0.3, below which clocks may not have settled. */
  seconds?: number | undefined;
}

const longEnough = 0.3;
const ceilingOptions = object(
  {
    threads: optional(integer(1, 4096)),
    seconds: optional(positive, longEnough),
  } satisfies Fields<CeilingOptions>,
  "{ threads: 2 }",
);

/**
 * Measures what this machine's CPUs can do at most, by the instructions that the `cpu` device uses: multiply-adds from
 * registers, and reads of memory in order. Takes about a second, and should be alone on the machine.
 * @throws INVALID_ARGUMENT, NOT_BUILT.
 */
export async function measureCeilings(options: CeilingOptions = {}): Promise<Ceilings> {
  const { threads, seconds } = ceilingOptions(options, "options");
  const native = loadNative();
  return await native.ceilings(threads ?? native.cpuInfo().usableCpus, seconds);
}

/** Measures the ceilings for as long as the cases beside them, if that is not longer than they need. */
export async function ceilingsBeside(seconds: number, threads: number): Promise<Ceilings> {
  return await measureCeilings({ threads, seconds: Math.min(seconds, longEnough) });
}

/** How fast memory reads just now, in 10^9 bytes a second, measured for about as long. */
export async function measureReadRate(seconds: number, threads: number): Promise<number> {
  return await loadNative().readRate(threads, Math.min(seconds, longEnough));
}

/** The better of two measurements, made before and after the measurements that they are compared with: other load can only lower them. */
export function betterOf(before: Ceilings, after: Ceilings): Ceilings {
  return {
    fmaGflops: Math.max(before.fmaGflops, after.fmaGflops),
    bf16Gflops: Math.max(before.bf16Gflops, after.bf16Gflops),
    int8Gops: Math.max(before.int8Gops, after.int8Gops),
    readGBs: Math.max(before.readGBs, after.readGBs),
  };
}

const peaks = { fma: "fmaGflops", bf16: "bf16Gflops", int8: "int8Gops" } as const;

/** The most that products by this kernel can reach, in 10^9 operations a second. */
export function peakGflops(ceilings: Ceilings, { peak, products }: Pick<ProductKernel, "peak" | "products">): number {
  return ceilings[peaks[peak]] / products;
}

/** Lower bound on a case's seconds: the time to move its bytes or to do its operations, whichever is longer. */
export function floorSeconds(
  { operations, bytes }: Pick<BenchCase, "operations" | "bytes">,
  ceilings: Ceilings,
  kernel: ProductKernel,
): number {
  return Math.max(bytes / (ceilings.readGBs * 1e9), operations / (peakGflops(ceilings, kernel) * 1e9));
}

/** What the ceilings say of a case. */
export interface Bound {
  /** The median of the read rates beside the case. */
  readonly readGBs: number;
  /** The least time, in seconds; the median over the rounds. */
  readonly floor: number;
  /** The least time by the one taken; the median over the rounds. */
  readonly ofCeiling: number;
}

/**
 * Compares times with the ceilings, round by round: on shared machines, memory may read twice as fast in one round as in another.
 * @param ceilings for peaks, which hardly change.
 * @param readGBs in each round.
 * @param times in each round.
 */
export function boundOf(
  work: Pick<BenchCase, "operations" | "bytes">,
  ceilings: Ceilings,
  readGBs: readonly number[],
  kernel: ProductKernel,
  times: readonly number[],
): Bound {
  const floors = readGBs.map((rate) => floorSeconds(work, { ...ceilings, readGBs: rate }, kernel));
  return {
    readGBs: summarize(readGBs).median,
    floor: summarize(floors).median,
    ofCeiling: ratios(floors, times).median,
  };
}

export function ceilingsText({ fmaGflops, bf16Gflops, int8Gops, readGBs }: Ceilings): string {
  const bf16 = bf16Gflops > 0 ? `${significant(bf16Gflops)} GFLOP/s bf16` : "no bf16";
  return `${significant(fmaGflops)} GFLOP/s f32 FMA, ${bf16}, ${significant(int8Gops)} GOP/s int8, ${significant(readGBs)} GB/s read`;
}

/** A kernel and what bounds it, in words. */
export function kernelText(ceilings: Ceilings, kernel: ProductKernel): string {
  const { name, peak, products } = kernel;
  const share = products > 1 ? ` / ${products}` : "";
  const unit = peak === "int8" ? "GOP/s" : "GFLOP/s";
  return `${name}, at most ${significant(peakGflops(ceilings, kernel))} ${unit} (${peak}${share})`;
}
