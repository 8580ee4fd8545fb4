import { badCheckpoint } from "../bad_checkpoint.js";
import { type FileIdentity, fileIdentities } from "../file_identity.js";
import { Model } from "../model.js";
import { configName } from "../remedies.js";
import type { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";

/** Reads the configuration of a model directory. @throws BAD_CHECKPOINT, which tells what to do if there is something else. */
export async function readSource(directory: string): Promise<Model> {
  try {
    return await Model.read(directory);
  } catch (error) {
    if (/\.(gguf|safetensors)$/.test(directory)) {
      throw badCheckpoint(directory, "expected a model directory to quantise, got the name of a single file", error);
    }
    throw error;
  }
}

/** Name, size and time of the source's files, by which work is resumed only for the same checkpoint. */
export async function sourceOf({ shards, directory }: ShardedCheckpoint): Promise<readonly FileIdentity[]> {
  return await fileIdentities(directory, [configName, ...new Set(shards.values())].sort());
}

/** @throws BAD_CHECKPOINT for a model that is quantised already. */
export function checkFloatModel({ quantization }: Model): void {
  if (quantization.fields === undefined) return;
  throw badCheckpoint(quantization.fields.path, "expected a model of floats, got one that is quantised already");
}
