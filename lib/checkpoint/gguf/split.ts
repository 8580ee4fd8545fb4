import { basename, dirname, join } from "node:path";
import { inspect } from "node:util";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { describe } from "../../core/errors.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { type OpenOptions, openOptions } from "../safetensors/file_options.js";
import { entryOf, inOneLine } from "../safetensors/tensor_range.js";
import { GgufFile } from "./file.js";
import type { GgufValue } from "./metadata.js";

/** What llama-gguf-split writes about a file: its number from 0 on, the number of files, and of all their tensors. */
const numberKey = "split.no";
const countKey = "split.count";
const tensorsKey = "split.tensors.count";

/** `name-00001-of-00003.gguf` */
const splitName = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/s;

/** A model's tensors, in one GGUF file or in several that `split.count` of the first one announces. */
export class SplitGguf extends ThreadBound implements AsyncDisposable {
  /** The path of the first file. */
  readonly path: string;
  /** The open files, in the order of their numbers. */
  readonly files: readonly GgufFile[];
  readonly #owners = new Map<string, GgufFile>();
  #closed = false;

  private constructor(files: readonly [GgufFile, ...GgufFile[]]) {
    super();
    this.path = files[0].path;
    this.files = files;
    for (const file of files) {
      for (const name of file.tensors.keys()) {
        const other = this.#owners.get(name);
        if (other !== undefined) {
          throw badCheckpoint(
            file.path,
            `expected unique tensors, got ${JSON.stringify(name)}, which ${other.path} has too`,
          );
        }
        this.#owners.set(name, file);
      }
    }
    const expected = files[0].metadata.get(tensorsKey) ?? this.#owners.size;
    if (expected !== this.#owners.size) {
      throw badCheckpoint(this.path, `${tensorsKey}: expected ${describe(expected)} tensors, got ${this.#owners.size}`);
    }
  }

  /**
   * Opens a model by its only or first file.
   * @throws BAD_CHECKPOINT for a malformed or missing file, one that is not the first, and files that do not belong
   * together; the signal's reason.
   */
  static async open(path: FilePath, options: OpenOptions = {}): Promise<SplitGguf> {
    const read = openOptions(options, "options");
    const first = await GgufFile.open(filePath(path, "path"), read);
    const files: [GgufFile, ...GgufFile[]] = [first];
    try {
      for (const [index, name] of fileNames(first).entries()) {
        if (index === 0) continue;
        const file = await GgufFile.open(join(dirname(first.path), name), read);
        files.push(file);
        checkMember(file, first, index);
      }
      return new SplitGguf(files);
    } catch (error) {
      for (const file of files) await file.close();
      throw error;
    }
  }

  /** The metadata of the first file. */
  get metadata(): ReadonlyMap<string, GgufValue> {
    return (this.files[0] as GgufFile).metadata;
  }

  /** The names of all tensors. */
  get names(): Iterable<string> {
    return this.#owners.keys();
  }

  /** Whether one of the files has a tensor of this name. */
  has(name: string): boolean {
    return this.#owners.has(name);
  }

  /**
   * The file that holds the tensor.
   * @throws BAD_CHECKPOINT if there is none.
   */
  fileOf(name: string): GgufFile {
    return entryOf(this.path, this.#owners, name);
  }

  /** Closes the files; reads in progress reject. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.files.map((file) => file.close()));
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `SplitGguf ${inOneLine(this.path, this.#owners, this.#closed)}`;
  }
}

/** The names of all files of a model, by its first one. */
function fileNames(first: GgufFile): readonly string[] {
  const name = basename(first.path);
  const count = first.metadata.get(countKey) ?? 1;
  if (count === 0 || count === 1) return [name];
  const [, prefix, number, total] = splitName.exec(name) ?? [];
  if (typeof count !== "number" || prefix === undefined || Number(total) !== count) {
    throw badCheckpoint(
      first.path,
      `${countKey}: expected a file named NAME-00001-of-${String(count).padStart(5, "0")}.gguf, got ${describe(name)}`,
    );
  }
  if (first.metadata.get(numberKey) !== 0 || Number(number) !== 1) {
    throw badCheckpoint(first.path, `expected the first of the ${count} files, ${prefix}-00001-of-${total}.gguf`);
  }
  return Array.from(
    { length: count },
    (_, index) => `${prefix}-${String(index + 1).padStart(5, "0")}-of-${total}.gguf`,
  );
}

/** Checks that a file says of itself what its name says. */
function checkMember(file: GgufFile, first: GgufFile, index: number): void {
  for (const [key, expected] of [
    [numberKey, index],
    [countKey, first.metadata.get(countKey)],
  ] as const) {
    const value = file.metadata.get(key);
    if (value !== expected)
      throw badCheckpoint(file.path, `${key}: expected ${describe(expected)}, got ${describe(value)}`);
  }
}
