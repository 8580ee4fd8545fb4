import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { isMoeError, MoeError } from "../core/errors.js";
import { reasonOf } from "../core/files/reason.js";
import { printable } from "../core/text/printable.js";

/** Returns what a call of the file system does. Its error becomes a {@link fileSystemError} about `path`; a MoeError stays. */
export async function callFileSystem<T>(path: string, action: "read" | "written", call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw isMoeError(cause) ? cause : fileSystemError(path, action, cause);
  }
}

/** BAD_CHECKPOINT for a file that cannot be read, WRITE_FAILED for one that cannot be written; the message of `cause` says why. */
export function fileSystemError(path: string, action: "read" | "written", cause: unknown): MoeError {
  const code = action === "read" ? "BAD_CHECKPOINT" : "WRITE_FAILED";
  const why = (action === "written" && missingFolder(path, cause)) || reasonOf(cause);
  return new MoeError(code, printable(`${path}: cannot be ${action}: ${why}`), { cause });
}

/** Says that the folder of a file does not exist, where the system's own message would name a temporary file in it. */
function missingFolder(path: string, cause: unknown): string | undefined {
  const folder = dirname(path);
  const { code } = Object(cause) as NodeJS.ErrnoException;
  return code === "ENOENT" && !existsSync(folder) ? `ENOENT: there is no folder ${folder}` : undefined;
}
