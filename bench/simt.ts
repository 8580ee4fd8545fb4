import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "#lib/core/package_root.js";

/** Speed of the simt runtime on one CPU core. */
export interface SimtSpeed {
  /** Switches between CUDA threads. */
  readonly switchesPerSecond: number;
  /** Warp-wide mma.m16n8k16 products of bfloat16. */
  readonly mmaPerSecond: number;
}

/** Runs the simt runtime's benchmark program; undefined if this build has no simt device. */
export function measureSimt(): SimtSpeed | undefined {
  const program = join(packageRoot(), "build", "native", "simt", "test", "moe_simt_benchmark");
  if (!existsSync(program)) return undefined;
  return JSON.parse(execFileSync(program, { encoding: "utf8" })) as SimtSpeed;
}

export function simtText({ switchesPerSecond, mmaPerSecond }: SimtSpeed): string {
  const millions = (perSecond: number): string => (perSecond / 1e6).toPrecision(3);
  return `simt, one core: ${millions(switchesPerSecond)} M thread switches/s, ${millions(mmaPerSecond)} M mma/s`;
}
