import { invalidArgument } from "../../core/errors.js";
import { typedArray } from "../../core/foreign.js";
import { transferOptions } from "./file_options.js";
import type { RegularFile, TransferOptions } from "./regular_file.js";

/** A tensor's bytes in a file. */
interface Place {
  readonly byteOffset: number;
  readonly byteLength: number;
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
