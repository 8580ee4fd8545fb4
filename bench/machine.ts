import os from "node:os";
import { loadNative, platformName } from "#lib/core/native.js";
import { packageVersion } from "#lib/core/version.js";

/** The machine and build that the numbers were measured with. */
export function describeMachine(threads: number): object {
  const native = loadNative();
  return {
    date: new Date().toISOString(),
    version: packageVersion,
    node: process.version,
    platform: platformName(),
    cpu: native.cpuInfo(),
    threads,
    memoryBytes: os.totalmem(),
    build: native.buildInfo(),
  };
}
