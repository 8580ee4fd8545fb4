import { isMoeError } from "#lib/core/errors.js";
import { UsageError } from "#lib/terminal/option_values.js";

/**
 * Runs a benchmark program. What a user can cause ends it with one line instead of a stack: `others` are classes of
 * errors that only this program has.
 */
export async function reportingErrors(
  program: string,
  main: () => Promise<void>,
  ...others: readonly (new (
    ...args: never[]
  ) => Error)[]
): Promise<void> {
  try {
    await main();
  } catch (error) {
    const known =
      isMoeError(error) ||
      [UsageError, ...others].some((expected) => error instanceof expected) ||
      (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS");
    if (!known) throw error;
    process.stderr.write(`${program}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
