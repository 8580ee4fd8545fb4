import { integerOption } from "../../terminal/option_values.js";

/** `--threads` of the commands that open a device. */
export const threadsOption = { type: "string", value: "N", help: "threads of a CPU device (all CPUs)" } as const;

/** The options of openDevice for a value of `--threads`. @throws UsageError. */
export function givenThreads(value: string | undefined): { threads?: number } {
  return value === undefined ? {} : { threads: threadCount(value) };
}

/** Parses a number of threads that a device can have. @throws UsageError. */
export function threadCount(value: string): number {
  return integerOption("threads", value, 1, 4096);
}
