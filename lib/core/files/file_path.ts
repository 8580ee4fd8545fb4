import { fileURLToPath } from "node:url";
import { invalidArgument } from "../errors.js";
import type { Reader } from "../input/options.js";

/** Where a file or a folder is: a path, or a `file:` URL as an object, such as `new URL("model", import.meta.url)`. */
export type FilePath = string | URL;

/** Reads a {@link FilePath}: the path. */
export const filePath: Reader<string> = (value, name) => {
  if (typeof value === "string" && value !== "") return value;
  let given = value;
  try {
    if (isUrl(value)) {
      given = value.href;
      return fileURLToPath(value);
    }
  } catch {
    // It has another scheme.
  }
  throw invalidArgument(name, "a path or a file: URL", given);
};

/** Whether a value is a URL, which any object may claim to be. */
export function isUrl(value: unknown): value is URL {
  try {
    return value instanceof URL;
  } catch {
    return false;
  }
}
