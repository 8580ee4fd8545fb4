import { inspect } from "node:util";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { invalidArgument } from "../../core/errors.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import { typedArray } from "../../core/input/foreign.js";
import { type SafetensorsArrayOf, type SafetensorsDType, viewAs } from "./dtype.js";
import { type OpenOptions, openOptions, transferOptions } from "./file_options.js";
import { headerLength, lengthBytes, readHeader, type SafetensorsHeader, type SafetensorsInfo } from "./header.js";
import { RegularFile, type TransferOptions } from "./regular_file.js";
import { entryOf, inOneLine, readTensorRange, tensorBytes } from "./tensor_range.js";

/** A tensor with its data, in the typed array of its `dtype`. */
export type SafetensorsTensor<D extends SafetensorsDType = SafetensorsDType> = D extends SafetensorsDType
  ? {
      /** The type of its elements. */
      readonly dtype: D;
      /** Its sizes, row-major; empty for a single number. */
      readonly shape: readonly number[];
      /** Its elements. */
      readonly data: SafetensorsArrayOf<D>;
    }
  : never;

/**
 * A safetensors file, open for reading. Opening it reads and checks the header. Tensors are read on demand, by any
 * number of concurrent calls.
 *
 *     await using file = await SafetensorsFile.open("model.safetensors");
 *     const { dtype, shape, data } = await file.read("lm_head.weight");
 */
export class SafetensorsFile extends ThreadBound implements AsyncDisposable {
  /** As it was given to {@link open}. */
  readonly path: string;
  /** Every tensor's dtype, shape and place, in the order of the data. */
  readonly tensors: ReadonlyMap<string, SafetensorsInfo>;
  /** The file's `__metadata__`; empty if it has none. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #file: RegularFile;

  private constructor(file: RegularFile, header: SafetensorsHeader) {
    super();
    this.path = file.path;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.#file = file;
  }

  /**
   * Opens a file, reads its header and checks it. A large header does not block the event loop.
   * @throws BAD_CHECKPOINT if the file cannot be read, is not a regular file or breaks a rule of the format.
   */
  static async open(path: FilePath, options: OpenOptions = {}): Promise<SafetensorsFile> {
    const { signal } = openOptions(options, "options");
    const file = await RegularFile.open(filePath(path, "path"));
    try {
      return new SafetensorsFile(file, await headerOf(file, signal));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * The header's entry for one tensor.
   * @throws BAD_CHECKPOINT if the file does not have it.
   */
  info(name: string): SafetensorsInfo {
    return entryOf(this.path, this.tensors, name);
  }

  /**
   * One tensor with its data.
   * @throws BAD_CHECKPOINT if the file lacks it or was truncated since it was opened, OUT_OF_MEMORY, DISPOSED.
   */
  async read(name: string, options: TransferOptions = {}): Promise<SafetensorsTensor> {
    const info = this.info(name);
    const read = transferOptions(options, "options");
    const bytes = tensorBytes(this.path, name, info);
    await this.readInto(name, bytes, read);
    const { dtype, shape } = info;
    return { dtype, shape, data: viewAs(dtype, bytes) } as SafetensorsTensor;
  }

  /**
   * Reads a whole tensor straight into `target`, which may be any memory of exactly the tensor's length.
   * @throws INVALID_ARGUMENT (another length), and the errors of {@link read}.
   */
  async readInto(name: string, target: Uint8Array, options: TransferOptions = {}): Promise<void> {
    const { byteLength } = this.info(name);
    const expected = `a Uint8Array of the tensor's ${byteLength} bytes`;
    const bytes = typedArray("target", target, ["Uint8Array"], expected);
    if (bytes.byteLength !== byteLength) throw invalidArgument("target", expected, bytes.byteLength);
    await this.readRange(name, 0, bytes, options);
  }

  /**
   * Reads a part of a tensor, such as some rows: `target.byteLength` bytes from `byteOffset`, counted from the tensor's
   * first byte.
   * @throws INVALID_ARGUMENT (a range outside the tensor), and the errors of {@link read}.
   */
  async readRange(name: string, byteOffset: number, target: Uint8Array, options: TransferOptions = {}): Promise<void> {
    await readTensorRange(this.#file, this.info(name), byteOffset, target, options);
  }

  /** @internal The open file's descriptor, for mapping the file. */
  get descriptor(): number {
    return this.#file.descriptor;
  }

  /** Closes the file; reads in progress reject. Idempotent. */
  async close(): Promise<void> {
    await this.#file.close();
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `SafetensorsFile ${inOneLine(this.path, this.tensors, this.#file.closed)}`;
  }
}

async function headerOf(file: RegularFile, signal: AbortSignal | undefined): Promise<SafetensorsHeader> {
  const first = new Uint8Array(Math.min(lengthBytes, file.size));
  await file.read(first, 0, { signal });
  const header = new Uint8Array(headerLength(file.path, first, file.size));
  await file.read(header, lengthBytes, { signal });
  return await readHeader(file.path, header, file.size, signal);
}
