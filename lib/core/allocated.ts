import { freemem } from "node:os";
import { MoeError } from "./errors.js";

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

/** Bytes that the process can fill; other systems than Linux refuse what they do not have. */
function memoryLeft(): number {
  if (process.platform !== "linux") return Number.POSITIVE_INFINITY;
  // 0 if there is no limit. What the process's control group uses includes cached files, which the kernel takes back.
  const limit = process.constrainedMemory() || Number.POSITIVE_INFINITY;
  return Math.min(freemem(), limit - process.memoryUsage.rss());
}
