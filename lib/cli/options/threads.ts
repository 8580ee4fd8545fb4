import { integerOption } from "../../terminal/option_values.js";

/** `--threads` of the commands that open a device. */
export const threadsOption = { type: "string", value: "N", help: "threads of a CPU device (all CPUs)" } as const;

/** What openDevice takes for it. @throws UsageError. */
export function givenThreads(value: string | undefined): { threads?: number } {
  return value === undefined ? {} : { threads: threadCount(value) };
}

/** As many threads as a device can have. @throws UsageError. */
export function threadCount(value: string): number {
  return integerOption("threads", value, 1, 4096);
}
