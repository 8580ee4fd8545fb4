import { constants } from "node:fs";
import { type FileHandle, open, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { MoeError } from "../../../core/errors.js";
import { isUnfinishedOf, renamed } from "../../../core/files/whole_file.js";
import { badCheckpoint } from "../../bad_checkpoint.js";
import { callFileSystem } from "../../file_system_error.js";
import { nothingTaken, writeTextAtomically } from "../../safetensors/atomic_file.js";
import { exists } from "../../safetensors/regular_file.js";
import { readJsonObject } from "../../safetensors/strict_json.js";
import { checkBegunState, nothingToResume } from "../begun_state.js";
import type { Existing } from "../output_folder.js";

/**
 * A large file while it is written: `NAME.partial`, beside which `NAME.partial.json` says what it is made from and how far
 * it is. It gets its name once it is complete. What the second says is on disk in the first at any moment.
 */
export class PartialFile<Progress> implements AsyncDisposable {
  /** How far the file was when it was opened. */
  readonly begun: Progress;
  readonly #path: string;
  readonly #state: object;
  readonly #handle: FileHandle;
  /** Where what is written ends. */
  #end: number;

  private constructor(path: string, state: object, handle: FileHandle, { progress, bytes }: Noted<Progress>) {
    this.#path = path;
    this.#state = state;
    this.#handle = handle;
    this.begun = progress;
    this.#end = bytes;
  }

  /**
   * Begins a file, or takes up one that was begun, as `existing` says; where there is none, one is always begun.
   * @param state what the result depends on; only a file of an equal one is resumed.
   * @param first how far a file is without a byte.
   * @throws INVALID_ARGUMENT if there is a file that must not be replaced, or that cannot be resumed; BAD_CHECKPOINT; WRITE_FAILED.
   */
  static async open<Progress>(
    path: string,
    state: object,
    existing: Existing,
    first: Progress,
  ): Promise<PartialFile<Progress>> {
    const names = [path, partialOf(path), stateOf(path)];
    const there = [];
    for (const name of names) if (await exists(name)) there.push(name);
    if (existing === "refuse" && there.length > 0) {
      throw new MoeError(
        "INVALID_ARGUMENT",
        `out: ${there[0]} already exists; use --resume to continue an interrupted run, or --overwrite to replace it`,
      );
    }
    const resumes = existing === "resume" && there.length > 0;
    const noted = resumes ? await readNoted(path, state, first) : { progress: first, bytes: 0 };
    // What is there of another file must not pass for this one's, so the state comes first.
    if (!resumes) await writeState(path, state, noted);
    await removeUnfinished(stateOf(path));
    const flags = resumes ? constants.O_RDWR | constants.O_CREAT : "w";
    const handle = await callFileSystem(path, "written", () => open(partialOf(path), flags));
    try {
      await checkLength(path, handle, noted.bytes);
      return new PartialFile(path, state, handle, noted);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      const write = () => this.#handle.write(bytes, done, bytes.byteLength - done, position + done);
      const { bytesWritten } = await this.#call(write);
      if (bytesWritten === 0) throw nothingTaken(this.#path, bytes.byteLength - done);
      done += bytesWritten;
    }
    this.#end = Math.max(this.#end, position + bytes.byteLength);
  }

  /** Notes how far the file is, once its bytes are on disk. */
  async note(progress: Progress): Promise<void> {
    await this.#call(() => this.#handle.sync());
    await writeState(this.#path, this.#state, { progress, bytes: this.#end });
  }

  /** Gives the file its name. @param byteLength of the whole file. */
  async complete(byteLength: number): Promise<void> {
    await this.#call(async () => {
      await this.#handle.truncate(byteLength);
      await this.#handle.sync();
      await this.#handle.close();
      // Once the state is gone, nothing can be resumed.
      await renamed(dirname(this.#path), () => rename(partialOf(this.#path), this.#path));
      await rm(stateOf(this.#path), { force: true });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }

  async #call<T>(call: () => Promise<T>): Promise<T> {
    return await callFileSystem(this.#path, "written", call);
  }
}

const partialOf = (path: string) => `${path}.partial`;
const stateOf = (path: string) => `${path}.partial.json`;

/** What the state says of the file besides what it is made from. */
interface Noted<Progress> {
  readonly progress: Progress;
  /** How long the file is at least. */
  readonly bytes: number;
}

async function writeState(path: string, state: object, noted: Noted<unknown>): Promise<void> {
  await writeTextAtomically(stateOf(path), JSON.stringify({ ...state, ...noted }));
}

/** Refuses a file that has lost bytes since they were noted, as one that was copied meanwhile. @throws BAD_CHECKPOINT */
async function checkLength(path: string, handle: FileHandle, bytes: number): Promise<void> {
  const { size } = await callFileSystem(path, "written", () => handle.stat());
  if (size >= bytes) return;
  const problem = `expected at least the ${bytes} bytes that ${stateOf(path)} names, got ${size}`;
  throw badCheckpoint(partialOf(path), `${problem}; use --overwrite to begin again`);
}

/** Removes what ends of the process left of the file while it was being written. */
async function removeUnfinished(path: string): Promise<void> {
  const folder = dirname(path);
  await callFileSystem(path, "written", async () => {
    const left = (await readdir(folder)).filter((name) => isUnfinishedOf(path, name));
    for (const name of left) await rm(join(folder, name), { force: true });
  });
}

async function readNoted<Progress>(path: string, state: object, first: Progress): Promise<Noted<Progress>> {
  const place = stateOf(path);
  const stored = (await exists(place)) ? await readJsonObject(place) : undefined;
  const isFirst = JSON.stringify(stored?.progress) === JSON.stringify(first);
  if (stored === undefined || !(isFirst || (await exists(partialOf(path))))) {
    throw nothingToResume(place, (await exists(path)) ? "a file that is complete" : "none");
  }
  checkBegunState(place, stored, state);
  return { progress: stored.progress as Progress, bytes: typeof stored.bytes === "number" ? stored.bytes : 0 };
}
