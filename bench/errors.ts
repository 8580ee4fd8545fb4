import { isMoeError } from "#lib/core/errors.js";
import { UsageError } from "#lib/terminal/option_values.js";

/** Runs a benchmark program. What a user can cause ends it with one line instead of a stack. */
export async function reportingErrors(program: string, main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    const known =
      isMoeError(error) ||
      error instanceof UsageError ||
      (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS");
    if (!known) throw error;
    process.stderr.write(`${program}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
