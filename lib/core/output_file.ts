import { constants } from "node:fs";
import { access, stat, writeFile } from "node:fs/promises";
import { dirname, sep } from "node:path";
import { MoeError, type MoeErrorCode } from "./errors.js";

/**
 * Checks in advance that {@link writeOutput} can write to `path`.
 * @param parameter what has the path, for the error.
 * @throws INVALID_ARGUMENT
 */
export async function checkOutput(path: string, parameter: string): Promise<void> {
  try {
    // With a separator at its end, a path that ends in one is no file's, and a file in the place of a folder is an error.
    const place = (await isThere(path)) ? path : `${dirname(`${path}.`)}${sep}`;
    await access(place, constants.W_OK);
  } catch (cause) {
    throw notWritable("INVALID_ARGUMENT", path, parameter, cause);
  }
}

/** @throws WRITE_FAILED */
export async function writeOutput(path: string, text: string, parameter: string): Promise<void> {
  try {
    await writeFile(path, text);
  } catch (cause) {
    throw notWritable("WRITE_FAILED", path, parameter, cause);
  }
}

async function isThere(path: string): Promise<boolean> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (found?.isDirectory()) throw new Error("it is a folder");
  return found !== undefined;
}

function notWritable(code: MoeErrorCode, path: string, parameter: string, cause: unknown): MoeError {
  const message = `${parameter}: expected a writable file, got ${path}: ${(cause as Error).message}`;
  return new MoeError(code, message, { cause });
}
