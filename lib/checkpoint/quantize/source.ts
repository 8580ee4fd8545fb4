import { badCheckpoint } from "../bad_checkpoint.js";
import { type FileIdentity, fileIdentities } from "../file_identity.js";
import type { Model } from "../model.js";
import { configName } from "../remedies.js";
import type { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";

/** Name, size and time of the source's files, by which work is resumed only for the same checkpoint. */
export async function sourceOf({ shards, directory }: ShardedCheckpoint): Promise<readonly FileIdentity[]> {
  return await fileIdentities(directory, [configName, ...new Set(shards.values())].sort());
}

/** @throws BAD_CHECKPOINT for a model that is quantised already. */
export function checkFloats({ quantization }: Model): void {
  if (quantization.fields === undefined) return;
  throw badCheckpoint(quantization.fields.path, "expected a model of floats, got one that is quantised already");
}
