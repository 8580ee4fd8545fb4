import { isMoeError, MoeError } from "../core/errors.js";
import { printable } from "../core/text/printable.js";

/** A BAD_CHECKPOINT error about `place`: a file, or a tensor or field of one. Both may quote text from files. */
export function badCheckpoint(place: string, problem: string, cause?: unknown): MoeError {
  return new MoeError("BAD_CHECKPOINT", printable(`${place}: ${problem}`), { cause });
}

/** Returns `check()`; a MoeError that it throws becomes BAD_CHECKPOINT, about `place`. */
export function checkedAt<T>(place: string, check: () => T): T {
  try {
    return check();
  } catch (cause) {
    throw isMoeError(cause) ? badCheckpoint(place, cause.message, cause) : cause;
  }
}
