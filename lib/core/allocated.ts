import { freemem } from "node:os";
import { isMoeError, MoeError } from "./errors.js";

/** Smaller memory is not worth asking the system about. */
const asked = 2 ** 26;

/**
 * What `allocate` returns, which takes this many bytes. OUT_OF_MEMORY with this message if JavaScript has no memory for it,
 * or the machine: Linux grants more than it has, and kills the process once that is filled.
 */
export function allocated<T>(bytes: number, message: string, allocate: () => T): T {
  if (bytes >= asked && bytes > memoryLeft()) throw new MoeError("OUT_OF_MEMORY", message);
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

/** New bytes, zeros. @throws OUT_OF_MEMORY, to which {@link namingMemory} adds what they are for. */
export function newBytes(length: number): Uint8Array<ArrayBuffer> {
  return allocated(length, `no memory for ${length} bytes; ${remedy}`, () => new Uint8Array(length));
}

/** What V8 throws if there is no memory for an array, or if none can be as long. */
const refusals = /^(Array buffer allocation failed|Invalid (typed array|array buffer) length)/;

/**
 * What `work` returns, which makes arrays of these bytes of a tensor or a file. Where there is no memory for one of them, OUT_OF_MEMORY that
 * names the place; all other errors are passed on.
 */
export async function namingMemory<T>(place: string, bytes: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const refused = cause instanceof RangeError && refusals.test(cause.message);
    if (refused) throw new MoeError("OUT_OF_MEMORY", noMemory(place, bytes), { cause });
    if (!isMoeError(cause, "OUT_OF_MEMORY") || cause.message.startsWith(place)) throw cause;
    throw new MoeError("OUT_OF_MEMORY", `${place}: ${cause.message}`, { cause });
  }
}

/** Bytes that the process can fill; other systems than Linux refuse what they do not have. */
function memoryLeft(): number {
  if (process.platform !== "linux") return Number.POSITIVE_INFINITY;
  // 0 if there is no limit. What the process's control group uses includes cached files, which the kernel takes back.
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return Math.min(freemem(), limit - process.memoryUsage.rss());
}
