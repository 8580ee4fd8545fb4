import { constants, type Stats } from "node:fs";
import { access, realpath, stat, writeFile } from "node:fs/promises";
import { dirname, sep } from "node:path";
import { MoeError, type MoeErrorCode } from "./errors.js";
import { writeWholeText } from "./whole_file.js";

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

/**
 * Writes a file, or replaces one once the new text is on disk. What cannot be replaced is written in place: a device, a pipe,
 * and a file that its folder keeps.
 * @throws WRITE_FAILED
 */
export async function writeOutput(path: string, text: string, parameter: string): Promise<void> {
  try {
    const found = await statOf(path);
    if (found === undefined) await writeWholeText(path, text);
    else if (found.isFile()) await replace(path, text, found.mode & 0o777);
    else await writeFile(path, text);
  } catch (cause) {
    throw notWritable("WRITE_FAILED", path, parameter, cause);
  }
}

/** Of a folder that takes no new file, or lets none take the place of the one that is there, such as one mounted into a container. */
const kept: readonly unknown[] = ["EACCES", "EPERM", "EBUSY", "EROFS"];

async function replace(path: string, text: string, mode: number): Promise<void> {
  // Only this protects the file: another may take its place even so.
  await access(path, constants.W_OK);
  try {
    // Of a link, what it leads to.
    await writeWholeText(await realpath(path), text, mode);
  } catch (error) {
    if (!kept.includes((error as NodeJS.ErrnoException).code)) throw error;
    await writeFile(path, text);
  }
}

async function isThere(path: string): Promise<boolean> {
  const found = await statOf(path);
  if (found?.isDirectory()) throw new Error("it is a folder");
  return found !== undefined;
}

async function statOf(path: string): Promise<Stats | undefined> {
  return await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
}

function notWritable(code: MoeErrorCode, path: string, parameter: string, cause: unknown): MoeError {
  const message = `${parameter}: expected a writable file, got ${path}: ${(cause as Error).message}`;
  return new MoeError(code, message, { cause });
}
