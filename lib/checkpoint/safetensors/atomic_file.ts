import { copyFile, type FileHandle, link, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { MoeError } from "../../core/errors.js";
import { renamed, underTemporaryName, writeWholeText } from "../../core/files/whole_file.js";
import { callFileSystem, fileSystemError } from "../file_system_error.js";
import { chunkBytes, exists, type TransferOptions } from "./regular_file.js";

/** Bytes of a file, or a function that makes them when it is their turn. */
export type PartBytes = Uint8Array | (() => Promise<Uint8Array>);

/** A part of a file. */
export interface FilePart<Bytes = PartBytes> {
  /** What errors call it. */
  readonly place: string;
  readonly byteLength: number;
  readonly bytes: Bytes;
}

export interface AtomicFileOptions extends TransferOptions {
  /** Permissions of the file, less those that the umask takes; default 0o666. */
  readonly mode?: number;
  /** The error if there is a file already; default: it is replaced. */
  readonly existing?: () => Error;
}

/**
 * Writes a file that appears under its name only once it is complete and on disk, so that neither a failure nor a crash
 * of the machine leaves a part of it; an existing file is kept until then.
 * @throws WRITE_FAILED if it cannot be written; INVALID_ARGUMENT if a part's buffer is transferred meanwhile; the signal's
 * reason; what the functions of the parts and `onProgress` throw.
 */
export async function writeAtomically(
  path: string,
  parts: readonly FilePart[],
  { mode = 0o666, existing, ...transfer }: AtomicFileOptions,
): Promise<void> {
  // Only these calls: errors of the caller's functions stay as they are.
  const call = <T>(work: () => Promise<T>) => callFileSystem(path, "written", work);
  await underTemporaryName(path, async (temporary) => {
    const handle = await call(() => open(temporary, "wx", mode));
    try {
      await writeParts(path, handle, parts, transfer);
      await call(() => handle.sync());
    } finally {
      await call(() => handle.close());
    }
    await call(() =>
      renamed(dirname(path), () =>
        existing === undefined ? rename(temporary, path) : renameToFree(temporary, path, existing),
      ),
    );
  });
}

/** As {@link writeAtomically}, for a file of text. */
export async function writeTextAtomically(path: string, text: string): Promise<void> {
  await callFileSystem(path, "written", () => writeWholeText(path, text));
}

/** Copies a file, which appears under its name once it is complete. @throws WRITE_FAILED if it cannot be written. */
export async function copyAtomically(from: string, to: string): Promise<void> {
  await underTemporaryName(to, (temporary) =>
    callFileSystem(to, "written", async () => {
      await copyFile(from, temporary);
      await rename(temporary, to);
    }),
  );
}

/** Renames a file, but never over another one. File systems without hard links can only look beforehand. */
async function renameToFree(from: string, to: string, existing: () => Error): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (code === "EEXIST" || (await exists(to))) throw existing();
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code)) throw error;
    await rename(from, to);
    return;
  }
  await rm(from);
}

async function writeParts(
  path: string,
  handle: FileHandle,
  parts: readonly FilePart[],
  { onProgress, signal }: TransferOptions,
): Promise<void> {
  const total = parts.reduce((sum, part) => sum + part.byteLength, 0);
  let done = 0;
  for (const part of parts) {
    signal?.throwIfAborted();
    const bytes = typeof part.bytes === "function" ? await part.bytes() : part.bytes;
    for (let offset = 0; offset < part.byteLength; ) {
      signal?.throwIfAborted();
      const length = Math.min(chunkBytes, part.byteLength - offset);
      const write = () => handle.write(bytes, offset, length, done);
      const { bytesWritten } = await callFileSystem(path, "written", write);
      checkInPlace(part, bytes);
      if (bytesWritten === 0) throw nothingTaken(path, length);
      offset += bytesWritten;
      done += bytesWritten;
      onProgress?.(done, total);
    }
  }
}

/** The error for a file system that takes no bytes without saying why. */
export function nothingTaken(path: string, length: number): MoeError {
  return fileSystemError(path, "written", new Error(`none of ${length} bytes were taken`));
}

/** The caller has the data too, and may transfer their buffer in any wait, which leaves an array of no bytes. */
function checkInPlace({ place, byteLength }: FilePart, bytes: Uint8Array): void {
  if (bytes.byteLength === byteLength) return;
  throw new MoeError(
    "INVALID_ARGUMENT",
    `${place}: expected a buffer that stays in place until it is written, got one that was transferred; transfer it afterwards`,
  );
}
