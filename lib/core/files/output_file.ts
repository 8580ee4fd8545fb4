import { constants, type Stats } from "node:fs";
import { access, realpath, stat, writeFile } from "node:fs/promises";
import { dirname, sep } from "node:path";
import { MoeError, type MoeErrorCode } from "../errors.js";
import { reasonOf } from "./reason.js";
import { writeWholeText } from "./whole_file.js";

/**
 * Checks in advance that {@link writeOutput} can write to `path`.
 * @param parameter the option that gave the path, for the error.
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
 * and a file in a folder that takes no new ones.
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

/** Errors of a folder in which no file can be created or renamed, such as a file that is mounted into a container. */
const noNewFile: readonly unknown[] = ["EACCES", "EPERM", "EBUSY", "EROFS"];

async function replace(path: string, text: string, mode: number): Promise<void> {
  // A rename needs no permission on the file itself, so that a write-protected one has to be refused here.
  await access(path, constants.W_OK);
  try {
    // Replace what a link points to, not the link.
    await writeWholeText(await realpath(path), text, mode);
  } catch (error) {
    if (!noNewFile.includes((error as NodeJS.ErrnoException).code)) throw error;
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
  const message = `${parameter}: expected a writable file, got ${path}: ${reasonOf(cause)}`;
  return new MoeError(code, message, { cause });
}
