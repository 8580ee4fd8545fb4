import { MoeError } from "./errors.js";

/** What `allocate` returns; OUT_OF_MEMORY with this message if JavaScript has no memory for it. */
export function allocated<T>(message: string, allocate: () => T): T {
  try {
    return allocate();
  } catch (cause) {
    throw new MoeError("OUT_OF_MEMORY", message, { cause });
  }
}
