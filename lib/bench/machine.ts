import { existsSync, readdirSync, readFileSync } from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { type BuildInfo, type CpuInfo, loadNative } from "../core/addon/native.js";
import { platformName } from "../core/addon/platforms.js";
import { runtimeName } from "../core/addon/runtime.js";
import { packageVersion } from "../core/addon/version.js";

/** The machine and build that numbers were measured with. */
export interface Machine {
  /** When, in UTC, as ISO 8601. */
  readonly date: string;
  /** This package's version. */
  readonly version: string;
  /** The version of Node, or the one that another runtime stands in for. */
  readonly node: string;
  /** The JavaScript runtime and its version, such as `node v22.12.0`. */
  readonly runtime: string;
  /** Operating system, architecture and C library. */
  readonly platform: string;
  /** The processor, and what is used of it. */
  readonly cpu: CpuInfo;
  /** The largest number of threads that were used. */
  readonly threads: number;
  /** The machine's memory. */
  readonly memoryBytes: number;
  /** How the addon was built. */
  readonly build: BuildInfo;
}

export function describeMachine(threads: number): Machine {
  const native = loadNative();
  return {
    date: new Date().toISOString(),
    version: packageVersion,
    node: process.version,
    runtime: runtimeName(),
    platform: platformName(),
    cpu: native.cpuInfo(),
    threads,
    memoryBytes: os.totalmem(),
    build: native.buildInfo(),
  };
}

/** Bytes of the largest cache of the first CPU; undefined where the system does not tell. */
export function lastLevelCacheBytes(folder = "/sys/devices/system/cpu/cpu0/cache"): number | undefined {
  if (!existsSync(folder)) return undefined;
  const sizes = readdirSync(folder)
    .map((name) => join(folder, name, "size"))
    .filter((path) => existsSync(path))
    .map((path) => 1024 * Number.parseInt(readFileSync(path, "utf8"), 10)); // such as 307200K
  return sizes.length === 0 ? undefined : Math.max(...sizes);
}

/** More than the caches of most machines hold. */
export const leastBeyondCaches = 256 * 2 ** 20;

/** Bytes of which the caches hold too little to matter: twice the last-level cache, where the system tells its size. */
export function bytesBeyondCaches(cacheBytes = lastLevelCacheBytes()): number {
  return Math.max(leastBeyondCaches, 2 * (cacheBytes ?? 0));
}
