import { realpath, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { checkOutput, writeOutput } from "../core/files/output_file.js";
import { UsageError } from "./option_values.js";

/** A file that an option names for results, which are written when all work is done. */
export interface OutputFile {
  /** The option's name. */
  readonly option: string;
  readonly path: string;
  /** In lower case, such as `.html`. */
  readonly extension: string;
  /** @throws WRITE_FAILED */
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
    return { option: name, path, extension, write: (text) => writeOutput(path, text, `--${name}`) };
  });
  for (const { path } of files) await checkOutput(path, `--${name}`);
  await checkDifferentOutputs(...files);
  return files;
}

/** Refuses files of which one would replace another, whatever they are called. @throws UsageError */
export async function checkDifferentOutputs(...files: readonly (OutputFile | undefined)[]): Promise<void> {
  const known = new Map<string, OutputFile>();
  for (const file of files) {
    if (file === undefined) continue;
    const identity = await identityOf(file.path);
    const other = known.get(identity);
    known.set(identity, file);
    if (other === undefined) continue;
    const { option, path } = file;
    if (other.option === option) throw new UsageError(`--${option}: expected different files, got "${path}" twice`);
    throw new UsageError(`--${option}: expected another file than that of --${other.option}, got "${path}" for both`);
  }
}

/** The same for all names of a file that is there, and for all ways to write the path of one that is not. */
async function identityOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  if (found !== undefined) return `${found.dev}:${found.ino}`;
  return join(await realpath(dirname(path)), basename(path));
}

function anyOf(names: readonly string[]): string {
  return new Intl.ListFormat("en-GB", { type: "disjunction" }).format(names);
}
