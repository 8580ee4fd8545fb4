import { extname } from "node:path";
import { checkOutput, writeOutput } from "../core/output_file.js";
import { UsageError } from "./option_values.js";

/** A file that an option names for results, which are written when all work is done. */
export interface OutputFile {
  readonly path: string;
  /** In lower case, such as `.html`. */
  readonly extension: string;
  /** @throws INVALID_ARGUMENT if it cannot be written. */
  write(text: string): Promise<void>;
}

/**
 * The file that an option names, undefined if it is not given. It is checked here, before work that would be lost.
 * @param extensions those that its name may have; default any.
 * @throws UsageError for another name; INVALID_ARGUMENT if it cannot be written.
 */
export async function outputOption(
  name: string,
  path: string | undefined,
  extensions?: readonly string[],
): Promise<OutputFile | undefined> {
  const [file] = await outputListOption(name, path === undefined ? [] : [path], extensions);
  return file;
}

/** The files that an option names, each as {@link outputOption} checks it. */
export async function outputListOption(
  name: string,
  paths: readonly string[],
  extensions?: readonly string[],
): Promise<OutputFile[]> {
  const files = paths.map((path): OutputFile => {
    const extension = extname(path).toLowerCase();
    if (path === "") throw new UsageError(`--${name}: expected the name of a file, got ""`);
    if (extensions !== undefined && !extensions.includes(extension)) {
      throw new UsageError(`--${name}: expected a name in ${anyOf(extensions)}, got "${path}"`);
    }
    return { path, extension, write: (text) => writeOutput(path, text, `--${name}`) };
  });
  for (const { path } of files) await checkOutput(path, `--${name}`);
  return files;
}

function anyOf(names: readonly string[]): string {
  return new Intl.ListFormat("en-GB", { type: "disjunction" }).format(names);
}
