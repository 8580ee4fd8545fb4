import { type FileHandle, open } from "node:fs/promises";
import { invalidArgument, MoeError } from "../../core/errors.js";
import { callback, type Fields, object, optional, type Read, type Reader } from "../../core/options.js";
import { badCheckpoint, fileSystemError } from "../bad_checkpoint.js";
import { type SafetensorsArrayOf, type SafetensorsDType, viewAs } from "./dtype.js";
import { headerLength, lengthBytes, parseHeader, type SafetensorsHeader, type SafetensorsInfo } from "./header.js";

/** Bytes per file system call; progress is reported and the abort signal checked between calls. */
export const chunkBytes = 8 * 2 ** 20;

/** A tensor with its data, in the typed array of its `dtype`. */
export type SafetensorsTensor<D extends SafetensorsDType = SafetensorsDType> = D extends SafetensorsDType
  ? { readonly dtype: D; readonly shape: readonly number[]; readonly data: SafetensorsArrayOf<D> }
  : never;

export interface TransferOptions {
  /** Called after every chunk with the bytes done so far. */
  readonly onProgress?: ((bytesDone: number, bytesTotal: number) => void) | undefined;
  /** Stops between chunks; the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export const abortSignal: Reader<AbortSignal> = (value, name) => {
  if (typeof (value as Partial<AbortSignal> | null)?.throwIfAborted === "function") return value as AbortSignal;
  throw invalidArgument(name, "an AbortSignal", value);
};

export const transferFields = {
  onProgress: optional(callback<(bytesDone: number, bytesTotal: number) => void>()),
  signal: optional(abortSignal),
} satisfies Fields<TransferOptions>;
const transferOptions = object(transferFields, "{ onProgress, signal }");

/**
 * A safetensors file, open for reading. Opening it reads and checks the header. Tensors are read on demand, by any
 * number of concurrent calls.
 *
 *     await using file = await SafetensorsFile.open("model.safetensors");
 *     const { dtype, shape, data } = await file.read("lm_head.weight");
 */
export class SafetensorsFile implements AsyncDisposable {
  readonly path: string;
  /** Every tensor's dtype, shape and place, in the order of the data. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  /** The file's `__metadata__`; empty if it has none. */
  readonly metadata: Readonly<Record<string, string>>;
  #handle: FileHandle | undefined;

  private constructor(path: string, handle: FileHandle, header: SafetensorsHeader) {
    this.path = path;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#handle = handle;
  }

  /**
   * Opens a file, reads its header and checks it.
   * @throws BAD_CHECKPOINT if the file cannot be read or breaks a rule of the format.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    if (typeof path !== "string") throw invalidArgument("path", "a string", path);
    let handle: FileHandle;
    try {
      handle = await open(path, "r");
    } catch (cause) {
      throw fileSystemError(path, "read", cause);
    }
    try {
      return new SafetensorsFile(path, handle, await readHeader(path, handle));
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * The header's entry for one tensor.
   * @throws BAD_CHECKPOINT if the file does not have it.
   */
  info(name: string): SafetensorsInfo {
    const info = this.tensors.get(name);
    if (info !== undefined) return info;
    throw badCheckpoint(
      this.path,
      `expected a tensor ${JSON.stringify(name)}, got none of that name (tensors: ${this.tensors.size})`,
    );
  }

  /**
   * One tensor with its data.
   * @throws BAD_CHECKPOINT if the file lacks it or was truncated since it was opened, OUT_OF_MEMORY, DISPOSED.
   */
  async read(name: string, options: TransferOptions = {}): Promise<SafetensorsTensor> {
    const { dtype, shape, byteLength } = this.info(name);
    const read = transferOptions(options, "options");
    const bytes = allocate(byteLength);
    await this.readInto(name, bytes, read);
    return { dtype, shape, data: viewAs(dtype, bytes) } as SafetensorsTensor;
  }

  /**
   * Reads a whole tensor straight into `target`, which may be any memory of exactly the tensor's length.
   * @throws INVALID_ARGUMENT (another length), and the errors of {@link read}.
   */
  async readInto(name: string, target: Uint8Array, options: TransferOptions = {}): Promise<void> {
    const { byteLength } = this.info(name);
    if (!(target instanceof Uint8Array) || target.byteLength !== byteLength) {
      const got = target instanceof Uint8Array ? target.byteLength : target;
      throw invalidArgument("target", `a Uint8Array of the tensor's ${byteLength} bytes`, got);
    }
    await this.readRange(name, 0, target, options);
  }

  /**
   * Reads a part of a tensor, such as some rows: `target.byteLength` bytes from `byteOffset`, counted from the tensor's
   * first byte.
   * @throws INVALID_ARGUMENT (a range outside the tensor), and the errors of {@link read}.
   */
  async readRange(name: string, byteOffset: number, target: Uint8Array, options: TransferOptions = {}): Promise<void> {
    const info = this.info(name);
    if (!(target instanceof Uint8Array)) throw invalidArgument("target", "a Uint8Array", target);
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset + target.byteLength > info.byteLength) {
      const range = `a range of ${target.byteLength} bytes within the tensor's ${info.byteLength}`;
      throw invalidArgument("byteOffset", `the start of ${range}`, byteOffset);
    }
    await fill(this.path, this.#opened, target, info.byteOffset + byteOffset, transferOptions(options, "options"));
  }

  /** @internal The open file's descriptor, for mapping the file. */
  get descriptor(): number {
    return this.#opened.fd;
  }

  /** Closes the file; reads in progress reject. Idempotent. */
  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #opened(): FileHandle {
    if (this.#handle === undefined) throw new MoeError("DISPOSED", `${this.path}: used after close()`);
    return this.#handle;
  }
}

async function readHeader(path: string, handle: FileHandle): Promise<SafetensorsHeader> {
  let fileBytes: number;
  try {
    fileBytes = (await handle.stat()).size;
  } catch (cause) {
    throw fileSystemError(path, "read", cause);
  }
  const first = new Uint8Array(Math.min(lengthBytes, fileBytes));
  await fill(path, handle, first, 0);
  const header = new Uint8Array(headerLength(path, first, fileBytes));
  await fill(path, handle, header, lengthBytes);
  return parseHeader(path, header, fileBytes);
}

/** Fills `target` with the file's bytes from `position`. */
async function fill(
  path: string,
  handle: FileHandle,
  target: Uint8Array,
  position: number,
  { onProgress, signal }: Partial<Read<typeof transferOptions>> = {},
): Promise<void> {
  const total = target.byteLength;
  for (let done = 0; done < total; ) {
    signal?.throwIfAborted();
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(target, done, Math.min(chunkBytes, total - done), position + done));
    } catch (cause) {
      throw fileSystemError(path, "read", cause);
    }
    if (bytesRead === 0) {
      throw badCheckpoint(
        path,
        `expected ${total} bytes at ${position}, got ${done}: the file was truncated after it was opened`,
      );
    }
    done += bytesRead;
    onProgress?.(done, total);
  }
}

function allocate(byteLength: number): Uint8Array {
  try {
    return new Uint8Array(byteLength);
  } catch (cause) {
    throw new MoeError("OUT_OF_MEMORY", `cannot allocate ${byteLength} bytes; read the tensor in parts`, { cause });
  }
}
