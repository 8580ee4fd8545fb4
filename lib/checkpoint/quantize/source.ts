import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { ShardedCheckpoint } from "../safetensors/sharded_checkpoint.js";

/** Name, size and time of the source's files, by which work is resumed only for the same checkpoint. */
export async function sourceOf({ shards, directory }: ShardedCheckpoint): Promise<readonly string[][]> {
  const names = ["config.json", ...new Set(shards.values())].sort();
  return await Promise.all(
    names.map(async (name) => {
      const { size, mtimeNs } = await stat(join(directory, name), { bigint: true });
      return [name, String(size), String(mtimeNs)];
    }),
  );
}
