import { constants } from "node:os";
import { loadNative } from "#lib/core/addon/native.js";
import { isMoeError } from "#lib/core/errors.js";
import { integerOption, UsageError } from "#lib/terminal/option_values.js";

/** A benchmark program. */
export interface Program<Options> {
  /** Its npm script. */
  readonly name: string;
  readonly help: string;
  /** Parses the command line; undefined if it asks for help. */
  parse(): Options | undefined;
  run(options: Options): Promise<void>;
  /** Classes of errors that only this program has. */
  readonly errors?: readonly (new (
    ...args: never[]
  ) => Error)[];
}

/**
 * Runs a benchmark program. What a user can cause ends it with one line instead of a stack; a signal ends it as an exit does, which
 * removes temporary folders.
 */
export async function runProgram<Options>({ name, help, parse, run, errors = [] }: Program<Options>): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => process.exit(128 + constants.signals[signal]));
  }
  try {
    const options = parse();
    if (options === undefined) process.stdout.write(help);
    else await run(options);
  } catch (error) {
    const known =
      isMoeError(error) ||
      [UsageError, ...errors].some((expected) => error instanceof expected) ||
      (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS");
    if (!known) throw error;
    process.stderr.write(`${name}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

/** The value of `--threads`; by default all CPUs. */
export function threadsOption(given: string | undefined): number {
  return given === undefined ? loadNative().cpuInfo().usableCpus : integerOption("threads", given, 1);
}
