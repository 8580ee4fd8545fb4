import { stat } from "node:fs/promises";
import { join } from "node:path";

/** What tells a file from its other versions. */
export type FileIdentity = readonly [name: string, bytes: string, modified: string];

/** The identities of files in a directory. Rejects as `stat` does. */
export async function fileIdentities(directory: string, names: readonly string[]): Promise<readonly FileIdentity[]> {
  return await Promise.all(
    names.map(async (name): Promise<FileIdentity> => {
      const { size, mtimeNs } = await stat(join(directory, name), { bigint: true });
      return [name, String(size), String(mtimeNs)];
    }),
  );
}
