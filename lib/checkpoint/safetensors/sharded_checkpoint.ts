import { join } from "node:path";
import { inspect } from "node:util";
import { ThreadBound } from "../../core/device/thread_bound.js";
import { describe, MoeError } from "../../core/errors.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { indexName, missingWeights, singleName } from "../remedies.js";
import { SafetensorsFile } from "./file.js";
import { type OpenOptions, openOptions } from "./file_options.js";
import { tensorPlace } from "./header.js";
import { inPieces, type Pieces, pieceSize } from "./pieces.js";
import { exists } from "./regular_file.js";
import { isRecord, type JsonObject, readJsonObject } from "./strict_json.js";
import { entryOf, inOneLine } from "./tensor_range.js";

/**
 * The tensors of a Hugging Face model directory, in one `model.safetensors` or in the shards that
 * `model.safetensors.index.json` lists. A shard is opened once, when one of its tensors is first requested.
 *
 *     await using checkpoint = await ShardedCheckpoint.open("Qwen3-30B-A3B");
 *     const file = await checkpoint.fileOf("lm_head.weight");
 *     const { dtype, shape, data } = await file.read("lm_head.weight");
 */
export class ShardedCheckpoint extends ThreadBound implements AsyncDisposable {
  /** The folder of the files. */
  readonly directory: string;
  /** The path of the single file or of the index. */
  readonly path: string;
  /** The shard of every tensor, relative to the directory. */
  readonly shards: ReadonlyMap<string, string>;
  readonly #open = new Map<string, Promise<SafetensorsFile>>();
  #closed = false;

  private constructor(directory: string, path: string, shards: ReadonlyMap<string, string>) {
    super();
    this.directory = directory;
    this.path = path;
    this.shards = shards;
  }

  /**
   * Opens a directory. If it has both a single file and an index, the single file is used, as in Transformers.
   * @throws BAD_CHECKPOINT if there is neither, or if the index is malformed or lists files that do not exist or lie
   * outside the directory.
   * @param options.signal stops the reading of the index or of the single file's header.
   */
  static async open(directory: FilePath, options: OpenOptions = {}): Promise<ShardedCheckpoint> {
    const checkpoint = await ShardedCheckpoint.find(directory, options);
    if (checkpoint !== undefined) return checkpoint;
    throw await missingWeights(filePath(directory, "directory"));
  }

  /** As {@link open}, but undefined if the directory has neither. */
  static async find(directory: FilePath, options: OpenOptions = {}): Promise<ShardedCheckpoint | undefined> {
    const read = openOptions(options, "options");
    const folder = filePath(directory, "directory");
    const single = join(folder, singleName);
    if (await exists(single)) {
      const file = await SafetensorsFile.open(single, read);
      const shards = new Map(Array.from(file.tensors.keys(), (name) => [name, singleName]));
      const checkpoint = new ShardedCheckpoint(folder, single, shards);
      checkpoint.#open.set(singleName, Promise.resolve(file));
      return checkpoint;
    }
    const index = join(folder, indexName);
    if (!(await exists(index))) return undefined;
    return new ShardedCheckpoint(folder, index, await readIndex(folder, index, read.signal));
  }

  /** Whether one of the files has a tensor of this name. */
  has(name: string): boolean {
    return this.shards.has(name);
  }

  /**
   * The open file that holds the tensor. Closing the checkpoint closes it.
   * @throws BAD_CHECKPOINT if no shard has it, or its shard is malformed or lacks a tensor that the index lists for it;
   * DISPOSED.
   */
  async fileOf(name: string): Promise<SafetensorsFile> {
    if (this.#closed) throw new MoeError("DISPOSED", `${this.directory}: used after close()`);
    const shard = entryOf(this.path, this.shards, name);
    const open = this.#open.get(shard);
    if (open !== undefined) return open;
    const opened = this.#openShard(shard);
    this.#open.set(shard, opened);
    // What was in the way may be gone when the shard is next asked for.
    opened.catch(() => this.#open.delete(shard));
    return opened;
  }

  /** Closes the open shards; reads in progress reject. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    const files = await Promise.allSettled(this.#open.values());
    await Promise.all(files.map((file) => (file.status === "fulfilled" ? file.value.close() : undefined)));
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What `console.log` shows. */
  [inspect.custom](): string {
    return `ShardedCheckpoint ${inOneLine(this.directory, this.shards, this.#closed)}`;
  }

  async #openShard(shard: string): Promise<SafetensorsFile> {
    const file = await SafetensorsFile.open(join(this.directory, shard));
    for (const [name, shardOfName] of this.shards) {
      if (shardOfName === shard && !file.tensors.has(name)) {
        await file.close();
        throw badCheckpoint(tensorPlace(file.path, name), `expected in this shard according to ${this.path}, got none`);
      }
    }
    return file;
  }
}

async function readIndex(
  directory: string,
  index: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, string>> {
  const { weight_map: weightMap } = await readJsonObject(index, signal);
  if (!isRecord(weightMap)) {
    throw badCheckpoint(index, `weight_map: expected an object of file names, got ${describe(weightMap)}`);
  }
  const shards = await inPieces(checkShards(index, weightMap), signal);
  for (const shard of new Set(shards.values())) {
    signal?.throwIfAborted();
    if (!(await exists(join(directory, shard)))) {
      throw badCheckpoint(index, `weight_map: expected a file ${describe(shard)} in the directory, got none`);
    }
  }
  return shards;
}

function* checkShards(index: string, weightMap: JsonObject): Pieces<Map<string, string>> {
  const shards = new Map<string, string>();
  for (const name in weightMap) {
    const shard = weightMap[name];
    if (typeof shard !== "string" || !isFileName(shard)) {
      throw badCheckpoint(
        index,
        `weight_map[${describe(name)}]: expected a file in the same directory, got ${describe(shard)}`,
      );
    }
    shards.set(name, shard);
    if (shards.size % pieceSize === 0) yield;
  }
  return shards;
}

/** Whether `name` is a file name without folder or drive, on every platform. */
function isFileName(name: string): boolean {
  return /^[^/\\:]+$/.test(name) && name !== "." && name !== "..";
}
