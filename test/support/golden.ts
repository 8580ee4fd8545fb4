import { join } from "node:path";

/** The path of a golden file by name, such as `mixtral_small`; each family has a folder, with one file per size. */
export function goldenFile(name: string): string {
  const family = name.slice(0, name.lastIndexOf("_"));
  return join(import.meta.dirname, "..", "golden", family, `${name}.safetensors`);
}
