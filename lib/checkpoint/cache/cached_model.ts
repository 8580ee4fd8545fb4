import { createHash } from "node:crypto";
import { readdir, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { type FileIdentity, fileIdentities } from "../file_identity.js";
import { callFileSystem } from "../file_system_error.js";
import type { SplitGguf } from "../gguf/split.js";

/** The model that a layer's weights come from. */
export interface CachedModel {
  /** Its directory, or its only or first file. */
  readonly path: string;
  /** The folder of its caches where none is given. */
  readonly folder: string;
  /** Name, size and time of every file that holds weights or says where they are. */
  readonly files: readonly FileIdentity[];
}

/** The folder of caches in a model directory, or beside GGUF files. */
const folderName = ".moe-kernels";

/** @throws BAD_CHECKPOINT if the directory cannot be listed. */
export async function cachedDirectory(directory: string): Promise<CachedModel> {
  return {
    path: directory,
    folder: join(directory, folderName),
    files: await identities(directory, async () => {
      return (await readdir(directory)).filter((name) => /\.safetensors(\.index\.json)?$/.test(name)).sort();
    }),
  };
}

/** A folder has any number of GGUF files, so each has a folder of caches. @throws BAD_CHECKPOINT */
export async function cachedGguf({ path, files }: SplitGguf): Promise<CachedModel> {
  const directory = dirname(path);
  return {
    path,
    folder: join(directory, folderName, basename(path)),
    files: await identities(directory, async () => files.map((file) => basename(file.path))),
  };
}

/**
 * The model with its caches in another folder, which may serve any number of models; `folder` undefined leaves it as it is.
 * @throws BAD_CHECKPOINT if the model is no longer where it was.
 */
export async function cachedIn(model: CachedModel, folder: string | undefined): Promise<CachedModel> {
  return folder === undefined ? model : { ...model, folder: join(folder, await nameOf(model)) };
}

/** A name for a model among others: its own, made unique by its whole path. */
async function nameOf({ path }: CachedModel): Promise<string> {
  const whole = await callFileSystem(path, "read", () => realpath(resolve(path)));
  return `${basename(whole)}-${createHash("sha256").update(whole).digest("hex").slice(0, 12)}`;
}

async function identities(directory: string, list: () => Promise<readonly string[]>): Promise<readonly FileIdentity[]> {
  return await callFileSystem(directory, "read", async () => await fileIdentities(directory, await list()));
}
