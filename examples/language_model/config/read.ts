import type { ModelConfig } from "./config.js";
import { readDirectoryConfig } from "./directory.js";
import { readGgufConfig } from "./gguf.js";

/**
 * Reads what a model computes.
 *
 * @param path a directory as Hugging Face has them, or a GGUF file.
 * @throws RangeError for what this example does not compute.
 */
export async function readConfig(path: string): Promise<ModelConfig> {
  return await (path.endsWith(".gguf") ? readGgufConfig(path) : readDirectoryConfig(path));
}
