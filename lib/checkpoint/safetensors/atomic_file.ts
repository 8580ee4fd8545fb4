import { randomUUID } from "node:crypto";
import { type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { fileSystemError } from "../bad_checkpoint.js";
import { chunkBytes, exists, type TransferOptions } from "./regular_file.js";

/** Bytes of a file: these, or so many that are made when it is their turn. */
export type FilePart = Uint8Array | { readonly byteLength: number; readonly read: () => Promise<Uint8Array> };

export interface AtomicFileOptions extends TransferOptions {
  /** Permissions of the file, less those that the umask takes; default 0o666. */
  readonly mode?: number;
  /** The error if there is a file already; default: it is replaced. */
  readonly existing?: () => Error;
}

/**
 * Writes a file that appears under its name only once it is complete and on disk, so that neither a failure nor a crash
 * of the machine leaves a part of it; an existing file is kept until then.
 * @throws BAD_CHECKPOINT if it cannot be written; the signal's reason.
 */
export async function writeAtomically(
  path: string,
  parts: readonly FilePart[],
  { mode = 0o666, existing, ...transfer }: AtomicFileOptions,
): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  let handle: FileHandle;
  try {
    handle = await open(temporary, "wx", mode);
  } catch (cause) {
    throw fileSystemError(path, "written", cause);
  }
  try {
    try {
      await writeParts(handle, parts, transfer);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (existing === undefined) await rename(temporary, path);
    else await renameToFree(temporary, path, existing);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    throw (error as NodeJS.ErrnoException | null)?.syscall === undefined
      ? error
      : fileSystemError(path, "written", error);
  }
}

/** The file of which `name` is a part that {@link writeAtomically} left when the process ended; undefined for others. */
export function unfinishedFile(name: string): string | undefined {
  return /^(.+)\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.tmp$/.exec(name)?.[1];
}

/** Renames a file, but never over another one. File systems without hard links can only look beforehand. */
async function renameToFree(from: string, to: string, existing: () => Error): Promise<void> {
  try {
    await link(from, to);
    await rm(from);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (code === "EEXIST" || (await exists(to))) throw existing();
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code)) throw error;
    await rename(from, to);
  }
}

/** Makes a new name in a folder survive a crash. Windows cannot, and some file systems know no such call. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } catch (error) {
    if (!["EINVAL", "ENOTSUP", "EBADF"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  } finally {
    await folder.close();
  }
}

async function writeParts(
  handle: FileHandle,
  parts: readonly FilePart[],
  { onProgress, signal }: TransferOptions,
): Promise<void> {
  const total = parts.reduce((sum, part) => sum + part.byteLength, 0);
  let done = 0;
  for (const given of parts) {
    signal?.throwIfAborted();
    const part = "read" in given ? await given.read() : given;
    for (let offset = 0; offset < part.byteLength; ) {
      signal?.throwIfAborted();
      const length = Math.min(chunkBytes, part.byteLength - offset);
      const { bytesWritten } = await handle.write(part, offset, length, done);
      offset += bytesWritten;
      done += bytesWritten;
      onProgress?.(done, total);
    }
  }
}
