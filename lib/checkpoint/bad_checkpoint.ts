import { isMoeError, MoeError, messageOf } from "../core/errors.js";
import { printable } from "../core/printable.js";

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

/** Returns what a call of the file system does. Its error becomes BAD_CHECKPOINT, about `path`; a MoeError stays. */
export async function callFileSystem<T>(path: string, action: "read" | "written", call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw isMoeError(cause) ? cause : fileSystemError(path, action, cause);
  }
}

/** A BAD_CHECKPOINT error for a failed file system call, whose own message names reason and path. */
export function fileSystemError(path: string, action: "read" | "written", cause: unknown): MoeError {
  return badCheckpoint(path, `cannot be ${action}: ${messageOf(cause)}`, cause);
}
