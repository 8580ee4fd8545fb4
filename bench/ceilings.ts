import type { FloatDType } from "#lib/core/dtype.js";
import type { Ceilings } from "#lib/core/native.js";
import type { BenchCase } from "./case.js";

/**
 * The better of two measurements, made before and after the measurements that they are compared with. Other load and,
 * on virtual machines, fluctuating memory bandwidth can only lower them.
 */
export function betterOf(before: Ceilings, after: Ceilings): Ceilings {
  return {
    fmaGflops: Math.max(before.fmaGflops, after.fmaGflops),
    bf16Gflops: Math.max(before.bf16Gflops, after.bf16Gflops),
    readGBs: Math.max(before.readGBs, after.readGBs),
  };
}

/** The peak rate of products with weights of `dtype`, in 10^9 operations a second. */
export function peakGflops(ceilings: Ceilings, dtype: FloatDType): number {
  return dtype === "bf16" ? Math.max(ceilings.bf16Gflops, ceilings.fmaGflops) : ceilings.fmaGflops;
}

/** Lower bound on a case's seconds: the time to move its bytes or to do its operations, whichever is longer. */
export function floorSeconds(
  { operations, bytes }: Pick<BenchCase, "operations" | "bytes">,
  ceilings: Ceilings,
  dtype: FloatDType,
): number {
  return Math.max(bytes / (ceilings.readGBs * 1e9), operations / (peakGflops(ceilings, dtype) * 1e9));
}
