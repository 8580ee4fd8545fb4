import { invalidArgument } from "../../core/errors.js";
import { type FilePath, filePath, isUrl } from "../../core/files/file_path.js";
import { boolean, type Fields, object, optional, type Reader } from "../../core/input/options.js";

/** How packed weights are kept in a file. */
export interface CacheOptions {
  /** Folder of the files, which may serve any number of models; default `.moe-kernels` in the model directory or beside the GGUF file. */
  folder?: FilePath | undefined;
  /**
   * Read the file into the process's own memory instead of mapping it. Loading then takes the time to read the weights
   * once, but they are all checked at once, damaged ones are read from the checkpoint, and whatever happens to the file
   * while the layer is in use has no effect. Default false.
   */
  copy?: boolean | undefined;
}

/** The same as read; undefined for no cache. */
export interface CacheChoice {
  readonly folder: string | undefined;
  readonly copy: boolean;
}

const expected = "true, false, the path of a folder or an object such as { folder, copy: true }";

const folderName: Reader<string> = (value, name) => {
  if (value === "") throw invalidArgument(name, "the path of a folder", value);
  return filePath(value, name);
};

const cacheOptions = object(
  { folder: optional(folderName), copy: optional(boolean, false) } satisfies Fields<CacheOptions>,
  "{ folder, copy: true }",
);

export const cacheOption: Reader<CacheChoice | undefined> = (value, name) => {
  if (value === undefined || value === false) return undefined;
  if (value === true) return { folder: undefined, copy: false };
  if ((typeof value === "string" && value !== "") || isUrl(value))
    return { folder: filePath(value, name), copy: false };
  if (typeof value !== "object" || value === null) throw invalidArgument(name, expected, value);
  return cacheOptions(value, name);
};
