import { invalidArgument } from "../../core/errors.js";
import { typedArray } from "../../core/input/foreign.js";
import { text } from "../../core/input/options.js";
import { allocated } from "../../core/tensors/allocated.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { transferOptions } from "./file_options.js";
import { tensorPlace } from "./header.js";
import type { RegularFile, TransferOptions } from "./regular_file.js";

/** A tensor's bytes in a file. */
interface Place {
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** What there is of a tensor, by its name. @throws BAD_CHECKPOINT if the file or the model at `path` has none of that name. */
export function entryOf<T>(path: string, entries: ReadonlyMap<string, T>, name: string): T {
  const entry = entries.get(text(name, "name"));
  if (entry !== undefined) return entry;
  const expected = `expected a tensor ${JSON.stringify(name)}, got none of that name`;
  throw badCheckpoint(path, `${expected} (tensors: ${entries.size})`);
}

/** What `console.log` shows of open files after the name of their class. */
export function inOneLine(path: string, entries: ReadonlyMap<string, unknown>, closed: boolean): string {
  return `${JSON.stringify(path)}, tensors: ${entries.size}${closed ? " (closed)" : ""}`;
}

/** Memory for a whole tensor of a file. @throws OUT_OF_MEMORY. */
export function tensorBytes(path: string, name: string, { byteLength }: Pick<Place, "byteLength">): Uint8Array {
  const message = `${tensorPlace(path, name)}: no memory for its ${byteLength} bytes; read it in parts, with readRange`;
  return allocated(byteLength, message, () => new Uint8Array(byteLength));
}

/**
 * Reads a part of a tensor: `target.byteLength` bytes from `byteOffset`, counted from the tensor's first byte.
 * @throws INVALID_ARGUMENT (a range outside the tensor), and the errors of {@link RegularFile.read}.
 */
export async function readTensorRange(
  file: RegularFile,
  info: Place,
  byteOffset: number,
  target: Uint8Array,
  options: TransferOptions,
): Promise<void> {
  const bytes = typedArray("target", target, ["Uint8Array"], "a Uint8Array");
  if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset + bytes.byteLength > info.byteLength) {
    const range = `a range of ${bytes.byteLength} bytes within the tensor's ${info.byteLength}`;
    throw invalidArgument("byteOffset", `the start of ${range}`, byteOffset);
  }
  await file.read(bytes, info.byteOffset + byteOffset, transferOptions(options, "options"));
}
