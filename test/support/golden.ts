import { join } from "node:path";

/** The path of a golden file by its name, such as `mixtral_small`: a folder for each family, a file for each size. */
export function goldenFile(name: string): string {
  const family = name.slice(0, name.lastIndexOf("_"));
  return join(import.meta.dirname, "..", "golden", family, `${name}.safetensors`);
}
