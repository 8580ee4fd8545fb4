import { rm } from "node:fs/promises";
import { join } from "node:path";
import { invalidArgument, MoeError } from "../../core/errors.js";
import { type FilePath, filePath } from "../../core/files/file_path.js";
import { object, optional, positive } from "../../core/input/options.js";
import { indexName, singleName } from "../remedies.js";
import { type PartBytes, writeAtomically, writeTextAtomically } from "./atomic_file.js";
import { transferFields } from "./file_options.js";
import { exists, type TransferOptions } from "./regular_file.js";
import {
  type CheckedInput,
  checkData,
  checkSize,
  fileOf,
  type Input,
  readInputs,
  type SafetensorsInput,
  type SerializeOptions,
  serializeFields,
} from "./writer.js";

/** A tensor to write whose data may be made when they are needed, so that they need not all be in memory. */
export interface StreamedInput extends Omit<SafetensorsInput, "data"> {
  /** The elements, or a function that is called for them when they are written, one tensor after another. */
  readonly data: ArrayBufferView | (() => ArrayBufferView | Promise<ArrayBufferView>);
}

/** Options of {@link writeShardedSafetensors}. */
export interface ShardedWriteOptions extends SerializeOptions, TransferOptions {
  /** Most bytes of tensors in a file; a larger tensor has a file of its own. Default 5 GB. */
  readonly maximumShardBytes?: number | undefined;
}

const options = object(
  { ...serializeFields, ...transferFields, maximumShardBytes: optional(positive, 5e9) },
  "{ maximumShardBytes: 5e9 }",
);

/**
 * Writes the weights of a model directory: `model.safetensors`, or if that would be larger than a shard, `model-00001-of-0000N`
 * and so on with `model.safetensors.index.json`. Tensors go to shards in their order. Data that are functions are called one
 * after another, and each result is written before the next is asked for. A file appears once it is complete, the index
 * last; on failure the files of this call are removed.
 * @param directory is there, and has no weights.
 * @returns the names of the files with tensors.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH naming the tensor; WRITE_FAILED if a file cannot be written; the signal's
 * reason; what a function of the data throws.
 */
export async function writeShardedSafetensors(
  directory: FilePath,
  tensors: ReadonlyMap<string, StreamedInput> | Readonly<Record<string, StreamedInput>>,
  given: ShardedWriteOptions = {},
): Promise<readonly string[]> {
  const { maximumShardBytes, onProgress, signal, ...serialize } = options(given, "options");
  const shards = inShards(readInputs(tensors).map(checkStreamed), maximumShardBytes);
  const folder = filePath(directory, "directory");
  await refuseWeights(folder);
  const names = shards.map((_, index) => shardName(index, shards.length));
  const bytesTotal = shards.flat().reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
  let bytesBefore = 0;
  const written: string[] = [];
  try {
    for (const [index, shard] of shards.entries()) {
      const parts = fileOf(shard, serialize);
      const header = parts[0]?.byteLength ?? 0;
      const report = (done: number) => onProgress?.(bytesBefore + Math.max(0, done - header), bytesTotal);
      const path = join(folder, names[index] as string);
      await writeAtomically(path, parts, { signal, onProgress: report });
      written.push(path);
      bytesBefore += shard.reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
    }
    if (names.length > 1) await writeIndex(folder, shards, names, bytesTotal);
    return names;
  } catch (error) {
    for (const path of written) await rm(path, { force: true });
    throw error;
  }
}

type Checked = readonly [name: string, CheckedInput<PartBytes>];

function checkStreamed([name, input]: readonly [string, Input]): Checked {
  const size = checkSize(name, input);
  const { data } = input;
  if (typeof data !== "function") return [name, { ...size, bytes: checkData(name, input, data) }];
  return [name, { ...size, bytes: async () => checkData(name, input, await data()) }];
}

/** Runs of tensors, each of at most this many bytes; one run without tensors if there are none. */
function inShards(tensors: readonly Checked[], maximumBytes: number): readonly (readonly Checked[])[] {
  const shards: Checked[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const { byteLength } = tensor[1];
    if (bytes > 0 && bytes + byteLength > maximumBytes) {
      shards.push([]);
      bytes = 0;
    }
    (shards.at(-1) as Checked[]).push(tensor);
    bytes += byteLength;
  }
  return shards;
}

function shardName(index: number, count: number): string {
  const number = (value: number) => String(value).padStart(5, "0");
  return count === 1 ? singleName : `model-${number(index + 1)}-of-${number(count)}.safetensors`;
}

/** Readers prefer a single file to shards, so what is there would be read instead of what is written, or the other way. */
async function refuseWeights(directory: string): Promise<void> {
  for (const name of [singleName, indexName]) {
    if (await exists(join(directory, name))) {
      throw invalidArgument("directory", `a directory without ${singleName} and ${indexName}`, join(directory, name));
    }
  }
  if (await exists(directory)) return;
  throw new MoeError("WRITE_FAILED", `${directory}: expected a directory to write to, got none`);
}

async function writeIndex(
  directory: string,
  shards: readonly (readonly Checked[])[],
  names: readonly string[],
  bytes: number,
): Promise<void> {
  const entries = shards.flatMap((shard, index) => shard.map(([name]) => [name, names[index]] as const));
  const index = { metadata: { total_size: bytes }, weight_map: Object.fromEntries(entries) };
  await writeTextAtomically(join(directory, indexName), `${JSON.stringify(index, null, 2)}\n`);
}
