import { readFile, stat } from "node:fs/promises";

/** The text of a file or a pipe. Devices, of which some never end, are errors. */
export async function readText(path: string): Promise<string> {
  const stats = await stat(path);
  if (stats.isCharacterDevice() || stats.isBlockDevice()) throw new Error("it is a device");
  if (stats.isDirectory()) throw new Error("it is a folder");
  return await readFile(path, "utf8");
}
