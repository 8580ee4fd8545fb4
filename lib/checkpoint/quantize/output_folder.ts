import { lstat, readdir, realpath, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { invalidArgument, MoeError } from "../../core/errors.js";
import { makeFolder } from "../../core/files/make_folder.js";
import { isUnfinishedOf, unfinishedFile } from "../../core/files/whole_file.js";
import { callFileSystem, fileSystemError } from "../file_system_error.js";
import { configName, indexName, isPickled, quantizeStateName } from "../remedies.js";
import { copyAtomically, writeTextAtomically } from "../safetensors/atomic_file.js";
import { exists, statsOf } from "../safetensors/regular_file.js";
import { readJsonObject } from "../safetensors/strict_json.js";
import { checkBegunState, nothingToResume } from "./begun_state.js";
import { pythonJson } from "./python_json.js";

/** What to do with a folder that is there already. */
export type Existing = "refuse" | "resume" | "overwrite";

const isWeights = (name: string) => name.endsWith(".safetensors") || name === indexName;
const isWritten = (name: string) => isWeights(name) || name === configName || name === quantizeStateName;
/** Whether a file may have weights in another form, which are those of the original. */
function hasOtherWeights(name: string): boolean {
  const weights = name.replace(/\.index\.json$/, "");
  return isPickled(weights) || /\.(gguf|h5|msgpack|onnx)$/.test(weights);
}
/** Whether a file is a part of one that is written here, left when a process ended. */
const isUnfinished = (name: string) => isWritten(unfinishedFile(name) ?? "");

/** The folder that a checkpoint is written to. It has no config.json before it is complete. */
export class OutputFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Makes the folder, or takes up an existing one as `existing` says; one that is empty, but for unfinished files, is always taken.
   * @param state what the result depends on; a folder is only resumed for an equal one.
   * @throws INVALID_ARGUMENT, without a change, if the folder is there and must not be used; WRITE_FAILED if it cannot be
   * written.
   */
  static async open(source: string, path: string, state: object, existing: Existing): Promise<OutputFolder> {
    const folder = new OutputFolder(path);
    const names = await folder.#names();
    if (names !== undefined && (await realpath(path)) === (await realpath(resolve(source)))) {
      throw invalidArgument("out", "another folder than that of the checkpoint", path);
    }
    if (names?.some((name) => !isUnfinished(name))) {
      if (existing === "refuse") {
        throw new MoeError(
          "INVALID_ARGUMENT",
          `out: expected a new or empty folder, got ${path} with ${names.length} files; use --resume to continue an ` +
            "interrupted run, or --overwrite to replace its weights and configuration",
        );
      }
      if (existing === "resume") await folder.#checkState(state);
      else
        await folder.#clear(
          [configName, quantizeStateName, ...names.filter(isWeights)].filter((name) => names.includes(name)),
        );
    }
    await folder.#clear(names?.filter(isUnfinished) ?? []);
    await folder.#write(() => makeFolder(path));
    await folder.write(quantizeStateName, `${JSON.stringify(state, null, 2)}\n`);
    return folder;
  }

  /** Whether a file is there; all that are were written completely. */
  async has(name: string): Promise<boolean> {
    return await exists(join(this.path, name));
  }

  async write(name: string, text: string): Promise<void> {
    await writeTextAtomically(join(this.path, name), text);
  }

  /**
   * Copies the files of `source` other than weights in any form and configuration, not its folders. A folder of
   * huggingface_hub's cache consists of links, some of which lead nowhere once others are removed: these are left out.
   */
  async copyFrom(source: string): Promise<void> {
    const names = await callFileSystem(source, "read", () => readdir(source));
    const others = names.filter((name) => !isWritten(name) && !hasOtherWeights(name));
    const there = (await this.#names()) ?? [];
    await this.#clear(there.filter((name) => others.some((other) => isUnfinishedOf(other, name))));
    for (const name of others) {
      const path = join(source, name);
      if ((await statsOf(path))?.isFile()) await copyAtomically(path, join(this.path, name));
    }
  }

  /** Writes the index and, last of all, the configuration. */
  async complete(index: object, config: object): Promise<void> {
    await this.write(indexName, `${JSON.stringify(index, null, 2)}\n`);
    await this.write(configName, `${pythonJson(config)}\n`);
    await this.#write(() => rm(join(this.path, quantizeStateName)));
  }

  /** The names in the folder; undefined if it is not there. */
  async #names(): Promise<readonly string[] | undefined> {
    try {
      return await readdir(this.path);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === "ENOENT") return undefined;
      if (code === "ENOTDIR") throw invalidArgument("out", "a folder, or a name that ends in .gguf", this.path);
      throw fileSystemError(this.path, "read", cause);
    }
  }

  async #checkState(state: object): Promise<void> {
    const path = join(this.path, quantizeStateName);
    if (!(await exists(path))) {
      const done = await exists(join(this.path, configName));
      throw nothingToResume(path, done ? "a folder that is complete" : "none");
    }
    checkBegunState(path, await readJsonObject(path), state);
  }

  /** Removes files in their order: the configuration first, so that nothing reads what is left. */
  async #clear(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const path = join(this.path, name);
      if ((await lstat(path)).isDirectory()) throw fileSystemError(path, "written", new Error("it is a folder"));
      await this.#write(() => rm(path));
    }
  }

  async #write(change: () => Promise<unknown>): Promise<void> {
    await callFileSystem(this.path, "written", change);
  }
}
