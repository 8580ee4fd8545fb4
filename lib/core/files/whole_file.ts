import { randomUUID } from "node:crypto";
import { type FileHandle, lstat, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

// Files that appear under their name once they are complete. Errors are those of the file system.

/**
 * Calls `write` with what the file is called until it is complete, see {@link unfinishedFile}, and removes that if it fails. What
 * processes left that ended in the middle of the same file is removed first.
 */
export async function underTemporaryName(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  await removeAbandoned(path);
  const temporary = join(dirname(path), `${beginningOf(path)}.${randomUUID()}.tmp`);
  try {
    await write(temporary);
  } catch (error) {
    // The first error says more than that of removing what is left.
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

/** The file of which `name` is a part that was left when the process ended, or of a long name its beginning; undefined for others. */
export function unfinishedFile(name: string): string | undefined {
  return /^(.+)\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp$/.exec(name)?.[1];
}

/** Whether `name` is what a process that ended left of the file at `path`. */
export function isUnfinishedOf(path: string, name: string): boolean {
  return unfinishedFile(name) === beginningOf(path);
}

/** Most bytes of a name in common file systems, and how many what {@link unfinishedFile} takes for one adds. */
const longestName = 255;
const addedBytes = ".".length + 36 + ".tmp".length;

/** A file's name, or as much of it as leaves room for what is added. */
function beginningOf(path: string): string {
  const name = basename(path);
  let [bytes, end] = [0, 0];
  for (const character of name) {
    bytes += Buffer.byteLength(character);
    if (bytes > longestName - addedBytes) break;
    end += character.length;
  }
  return name.slice(0, end);
}

/** An unfinished file to which nothing has been written for this long, in milliseconds, is not being written any more. */
const abandonedAfter = 60 * 60 * 1000;

async function removeAbandoned(path: string): Promise<void> {
  const folder = dirname(path);
  // What cannot be listed, looked at or removed stays: the file may be written nevertheless.
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((name) => isUnfinishedOf(path, name))) {
    const left = join(folder, name);
    const written = (await lstat(left).catch(() => undefined))?.mtimeMs;
    if (written !== undefined && Date.now() - written > abandonedAfter) await rm(left).catch(() => {});
  }
}

/**
 * Writes a file of text, which is on disk when it appears; an existing file is kept until then.
 * @param mode its permissions; default those that the umask leaves.
 */
export async function writeWholeText(path: string, text: string, mode?: number): Promise<void> {
  await underTemporaryName(path, async (temporary) => {
    const handle = await open(temporary, "wx", mode);
    try {
      if (mode !== undefined) await handle.chmod(mode);
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renamed(dirname(path), () => rename(temporary, path));
  });
}

/**
 * Renames a file so that its name in `folder` survives a crash. The folder is opened first: once the file has its name,
 * little can fail.
 */
export async function renamed(folder: string, rename: () => Promise<void>): Promise<void> {
  const handle = await openToSync(folder);
  try {
    await rename();
    if (handle !== undefined) await syncNames(handle);
  } finally {
    await handle?.close();
  }
}

/** A folder; undefined on Windows, which cannot open it, and for one that may be written but not read. */
async function openToSync(folder: string): Promise<FileHandle | undefined> {
  if (process.platform === "win32") return undefined;
  try {
    return await open(folder, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EACCES") return undefined;
    throw error;
  }
}

/** Some file systems know no such call. */
async function syncNames(folder: FileHandle): Promise<void> {
  try {
    await folder.sync();
  } catch (error) {
    if (!["EINVAL", "ENOTSUP", "EBADF"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}
