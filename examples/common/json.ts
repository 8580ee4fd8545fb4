/** Parses a file's text. @throws RangeError that names the file. */
// biome-ignore lint/suspicious/noExplicitAny: whoever reads a field checks it.
export function parseJson(text: string, path: string): any {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RangeError(`${path}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}
