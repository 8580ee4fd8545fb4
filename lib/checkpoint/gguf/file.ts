import { inspect } from "node:util";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import { type OpenOptions, openOptions, transferOptions } from "../safetensors/file_options.js";
import { RegularFile, type TransferOptions } from "../safetensors/regular_file.js";
import { entryOf, inOneLine, readTensorRange, tensorBytes } from "../safetensors/tensor_range.js";
import { type GgufHeader, type GgufInfo, readHeader } from "./header.js";
import type { GgufValue } from "./metadata.js";

/**
 * A GGUF file, open for reading: version 2 or 3, little-endian. Opening it reads and checks the header. Tensors are read
 * on demand, by any number of concurrent calls, as the bytes that the file has.
 *
 *     await using file = await GgufFile.open("model.gguf");
 *     const { type, shape } = file.info("blk.0.ffn_gate_exps.weight");
 *     const blocks = await file.read("blk.0.ffn_gate_exps.weight");
 */
export class GgufFile extends ThreadBound implements AsyncDisposable {
  /** As it was given to {@link open}. */
  readonly path: string;
  /** The format's version, 2 or 3. */
  readonly version: number;
  /** By key, in the order of the file. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Every tensor's type, shape and place, in the order of the data. */
  readonly tensors: ReadonlyMap<string, GgufInfo>;
  readonly #file: RegularFile;

  private constructor(file: RegularFile, header: GgufHeader) {
    super();
    this.path = file.path;
    this.version = header.version;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
    this.#file = file;
  }

  /**
   * Opens a file, reads its header and checks it. A large header does not block the event loop. Of a model that is split
   * into several files it opens just this one; see {@link SplitGguf}.
   * @throws BAD_CHECKPOINT if the file cannot be read, is not a regular file or breaks a rule of the format.
   */
  static async open(path: FilePath, options: OpenOptions = {}): Promise<GgufFile> {
    const { signal } = openOptions(options, "options");
    const file = await RegularFile.open(filePath(path, "path"));
    try {
      return new GgufFile(file, await readHeader(file, signal));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * The header's entry for one tensor.
   * @throws BAD_CHECKPOINT if the file does not have it.
   */
  info(name: string): GgufInfo {
    return entryOf(this.path, this.tensors, name);
  }

  /**
   * All bytes of one tensor: its blocks, row after row.
   * @throws BAD_CHECKPOINT if the file lacks it or was truncated since it was opened, OUT_OF_MEMORY, DISPOSED.
   */
  async read(name: string, options: TransferOptions = {}): Promise<Uint8Array> {
    const info = this.info(name);
    const read = transferOptions(options, "options");
    const bytes = tensorBytes(this.path, name, info);
    await this.readRange(name, 0, bytes, read);
    return bytes;
  }

  /**
   * Reads a part of a tensor, such as some rows: `target.byteLength` bytes from `byteOffset`, counted from the tensor's
   * first byte.
   * @throws INVALID_ARGUMENT (a range outside the tensor), and the errors of {@link read}.
   */
  async readRange(name: string, byteOffset: number, target: Uint8Array, options: TransferOptions = {}): Promise<void> {
    await readTensorRange(this.#file, this.info(name), byteOffset, target, options);
  }

  /** Closes the file; reads in progress reject. Idempotent. */
  async close(): Promise<void> {
    return this.#file.close();
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `GgufFile ${inOneLine(this.path, this.tensors, this.#file.closed)}`;
  }
}
