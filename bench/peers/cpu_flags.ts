import { existsSync, readFileSync } from "node:fs";

/** What Linux says of this CPU; undefined elsewhere. */
export function readCpuInfo(): string | undefined {
  return existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : undefined;
}

/** Those of the instruction sets, by Linux's names, that the CPU does not have. */
export function missingFlags(needed: readonly string[], cpuInfo = readCpuInfo()): string[] {
  const flags = new Set(/^flags\s*:(.*)$/m.exec(cpuInfo ?? "")?.[1]?.split(/\s+/));
  return needed.filter((flag) => !flags.has(flag));
}
