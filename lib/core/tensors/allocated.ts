import { freemem } from "node:os";
import { isMoeError, MoeError } from "../errors.js";

/** Below this many bytes, asking the system how much memory is left is not worth the time. */
const largeBytes = 2 ** 26;

/**
 * Calls `allocate`, which takes this many bytes, and returns its result.
 * @throws OUT_OF_MEMORY with this message if JavaScript or the machine has no memory for it. Linux grants more memory than it
 * has, and kills the process once that is filled, so large allocations are checked first.
 */
export function allocated<T>(bytes: number, message: string, allocate: () => T): T {
  if (bytes >= largeBytes && bytes > memoryLeft()) throw new MoeError("OUT_OF_MEMORY", message);
  try {
    return allocate();
  } catch (cause) {
    throw new MoeError("OUT_OF_MEMORY", message, { cause });
  }
}

const remedy = "free some first, such as that of layers that are not in use";

/** The message of an error about memory for bytes of a tensor or a file. */
export function noMemory(place: string, bytes: number): string {
  return `${place}: no memory for ${bytes} of its bytes; ${remedy}`;
}

/** New bytes, all 0. @throws OUT_OF_MEMORY; {@link withPlaceInMemoryErrors} adds what the bytes are for. */
export function newBytes(length: number): Uint8Array<ArrayBuffer> {
  return allocated(length, `no memory for ${length} bytes; ${remedy}`, () => new Uint8Array(length));
}

/** The messages of V8 where it refuses memory. */
const refusals = /^(Array buffer allocation failed|Invalid (typed array|array buffer|array|string) length)/;

/** Whether this is what V8 throws if there is no memory for an array, or if no array can be that long. */
export function isMemoryRefusal(error: unknown): error is RangeError {
  return error instanceof RangeError && refusals.test(error.message);
}

/**
 * Calls `work`, which makes arrays for these bytes of a tensor or a file, and returns its result.
 * @throws OUT_OF_MEMORY that names the place, if there is no memory for one of the arrays; all other errors as they are.
 */
export async function withPlaceInMemoryErrors<T>(place: string, bytes: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isMemoryRefusal(cause)) throw new MoeError("OUT_OF_MEMORY", noMemory(place, bytes), { cause });
    if (!isMoeError(cause, "OUT_OF_MEMORY") || cause.message.startsWith(place)) throw cause;
    throw new MoeError("OUT_OF_MEMORY", `${place}: ${cause.message}`, { cause });
  }
}

/** How many bytes the process can fill. Systems other than Linux refuse an allocation that they have no memory for. */
export function memoryLeft(): number {
  if (process.platform !== "linux") return Number.POSITIVE_INFINITY;
  // 0 if there is no limit. What the process's control group uses includes cached files, which the kernel takes back.
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return Math.min(freemem(), limit - process.memoryUsage.rss());
}
