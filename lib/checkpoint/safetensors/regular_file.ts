import { constants, type Stats } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { MoeError, unexpected } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { callFileSystem, fileSystemError } from "../file_system_error.js";

/** Bytes per file system call; progress is reported and the abort signal checked between calls. */
export const chunkBytes = 8 * 2 ** 20;

/** Options for reading or writing large pieces of a file. */
export interface TransferOptions {
  /** Called after every chunk with the bytes done so far. */
  readonly onProgress?: ((bytesDone: number, bytesTotal: number) => void) | undefined;
  /** Stops between chunks; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** A regular file, open for reading. Other kinds, such as pipes and devices, may block or never end. */
export class RegularFile implements AsyncDisposable {
  readonly path: string;
  /** Bytes, when it was opened. */
  readonly size: number;
  #handle: FileHandle | undefined;

  private constructor(path: string, size: number, handle: FileHandle) {
    this.path = path;
    this.size = size;
    this.#handle = handle;
  }

  /**
   * Opens a file. Symbolic links are followed: model caches consist of them.
   * @throws BAD_CHECKPOINT if it cannot be opened or is not a regular file.
   */
  static async open(path: string): Promise<RegularFile> {
    let handle: FileHandle | undefined;
    try {
      // Without O_NONBLOCK, opening a pipe waits for a writer. The open file is checked: the path may soon name another.
      handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0));
      const stats = await handle.stat();
      if (stats.isFile()) return new RegularFile(path, stats.size, handle);
      throw badCheckpoint(path, `cannot be read: expected a regular file, got ${kindOf(stats)}`);
    } catch (cause) {
      await handle?.close();
      throw cause instanceof MoeError ? cause : fileSystemError(path, "read", cause);
    }
  }

  get closed(): boolean {
    return this.#handle === undefined;
  }

  /** Its descriptor. @throws DISPOSED */
  get descriptor(): number {
    return this.#opened.fd;
  }

  /**
   * Fills `target` with the file's bytes from `position`.
   * @throws BAD_CHECKPOINT if it ends before or cannot be read; INVALID_ARGUMENT if the buffer of `target` is transferred
   * meanwhile; DISPOSED; the signal's reason.
   */
  async read(target: Uint8Array, position: number, { onProgress, signal }: TransferOptions = {}): Promise<void> {
    void this.#opened;
    const total = target.byteLength;
    for (let done = 0; done < total; ) {
      signal?.throwIfAborted();
      // It may have been closed since the last chunk.
      const read = () => this.#opened.read(target, done, Math.min(chunkBytes, total - done), position + done);
      const { bytesRead } = await callFileSystem(this.path, "read", read);
      if (bytesRead === 0) {
        const problem = `expected ${total} bytes at ${position}, got ${done}`;
        throw badCheckpoint(this.path, `${problem}: the file was truncated after it was opened`);
      }
      done += bytesRead;
      onProgress?.(done, total);
      checkKept(target, total);
    }
  }

  /** Closes the file; reads in progress reject. Idempotent. */
  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #opened(): FileHandle {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", `${this.path}: used after close()`);
    return this.#handle;
  }
}

/** The caller has the target too, and may transfer its buffer in any wait, which leaves an array of no bytes. */
function checkKept(target: Uint8Array, total: number): void {
  if (target.byteLength === total) return;
  throw unexpected("target", "an array that keeps its buffer", "one whose buffer was transferred");
}

function kindOf(stats: Awaited<ReturnType<FileHandle["stat"]>>): string {
  if (stats.isDirectory()) return "a directory";
  if (stats.isFIFO()) return "a pipe";
  return stats.isCharacterDevice() || stats.isBlockDevice() ? "a device" : "something else";
}

/** Whether there is anything of this path. @throws BAD_CHECKPOINT if that cannot be found out. */
export async function exists(path: string): Promise<boolean> {
  return (await statsOf(path)) !== undefined;
}

/** What there is of this path; undefined for nothing, or a link to nothing. @throws BAD_CHECKPOINT if that cannot be found out. */
export async function statsOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (cause) {
    if (["ENOENT", "ENOTDIR"].includes((cause as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw fileSystemError(path, "read", cause);
  }
}
