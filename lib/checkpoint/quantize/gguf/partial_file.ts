import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { MoeError } from "../../../core/errors.js";
import { badCheckpoint, fileSystemError } from "../../bad_checkpoint.js";
import { writeAtomically } from "../../safetensors/atomic_file.js";
import { exists } from "../../safetensors/regular_file.js";
import { readJsonObject } from "../../safetensors/strict_json.js";
import type { Existing } from "../output_folder.js";

/**
 * A large file while it is written: `NAME.partial`, beside which `NAME.partial.json` says what it is made from and how far
 * it is. It gets its name once it is complete.
 */
export class PartialFile<Progress> implements AsyncDisposable {
  /** How far the file was when it was opened; undefined for a new one. */
  readonly begun: Progress | undefined;
  readonly #path: string;
  readonly #state: object;
  readonly #handle: FileHandle;

  private constructor(path: string, state: object, handle: FileHandle, begun: Progress | undefined) {
    this.#path = path;
    this.#state = state;
    this.#handle = handle;
    this.begun = begun;
  }

  /**
   * Begins a file, or takes up one that was begun, as `existing` says.
   * @param state what the result depends on; only a file of an equal one is resumed.
   * @throws INVALID_ARGUMENT if there is a file that must not be replaced, or none to resume; BAD_CHECKPOINT.
   */
  static async open<Progress>(path: string, state: object, existing: Existing): Promise<PartialFile<Progress>> {
    const names = [path, partialOf(path)];
    const there = [];
    for (const name of names) if (await exists(name)) there.push(name);
    if (existing === "refuse" && there.length > 0) {
      throw new MoeError(
        "INVALID_ARGUMENT",
        `out: expected a file that is not there, got ${there[0]}; --resume goes on with what quantize began there, ` +
          "--overwrite replaces it",
      );
    }
    const begun = existing === "resume" ? await readProgress<Progress>(path, state) : undefined;
    try {
      return new PartialFile(path, state, await open(partialOf(path), begun === undefined ? "w" : "r+"), begun);
    } catch (cause) {
      throw fileSystemError(path, "written", cause);
    }
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      try {
        const { bytesWritten } = await this.#handle.write(bytes, done, bytes.byteLength - done, position + done);
        done += bytesWritten;
      } catch (cause) {
        throw fileSystemError(this.#path, "written", cause);
      }
    }
  }

  /** Notes how far the file is, once its bytes are on disk. */
  async note(progress: Progress): Promise<void> {
    await this.#sync();
    const text = JSON.stringify({ ...this.#state, progress });
    await writeAtomically(stateOf(this.#path), [Buffer.from(text)], {});
  }

  /** Gives the file its name. @param byteLength of the whole file. */
  async complete(byteLength: number): Promise<void> {
    await this.#handle.truncate(byteLength);
    await this.#sync();
    await this.#handle.close();
    try {
      await rename(partialOf(this.#path), this.#path);
      await rm(stateOf(this.#path), { force: true });
    } catch (cause) {
      throw fileSystemError(this.#path, "written", cause);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  async #sync(): Promise<void> {
    try {
      await this.#handle.sync();
    } catch (cause) {
      throw fileSystemError(this.#path, "written", cause);
    }
  }
}

const partialOf = (path: string) => `${path}.partial`;
const stateOf = (path: string) => `${path}.partial.json`;

async function readProgress<Progress>(path: string, state: object): Promise<Progress> {
  const place = stateOf(path);
  if (!(await exists(place)) || !(await exists(partialOf(path)))) {
    const got = (await exists(path)) ? "a file that is complete" : "none";
    throw new MoeError("INVALID_ARGUMENT", `resume: expected ${place}, with which quantize began, got ${got}`);
  }
  const stored = await readJsonObject(place);
  const expected: Readonly<Record<string, unknown>> = JSON.parse(JSON.stringify(state));
  const other = Object.keys(expected).find((key) => JSON.stringify(stored[key]) !== JSON.stringify(expected[key]));
  if (other !== undefined) throw badCheckpoint(place, `it was begun with another ${other}; --overwrite begins again`);
  return stored.progress as Progress;
}
