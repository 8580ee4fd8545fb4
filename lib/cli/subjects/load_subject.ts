import { statSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { isMoeError, MoeError, messageOf, unexpected } from "../../core/errors.js";
import { UsageError } from "../../terminal/option_values.js";
import { closeSubjects } from "../../testing/subject/close.js";
import { checkSubject } from "../../testing/subject/run_cases.js";
import { type Patience, settled } from "../../testing/subject/settled.js";
import type { Subject } from "../../testing/subject/subject.js";

/**
 * The subject that a module exports, named by an option.
 * @param patience how long the module and its promise are waited for; default without a limit.
 * @throws INVALID_ARGUMENT if there is no such module or it fails; UsageError if it exports something else.
 */
export async function loadSubject(option: string, file: string, patience?: Patience): Promise<Subject> {
  const path = resolve(file);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats?.isFile()) {
    const why = stats === undefined ? "does not exist" : "is not a regular file";
    throw unexpected(`--${option}`, "the file of a module", `${file}, which ${why}`);
  }
  const subject = await load(option, file, pathToFileURL(path), patience);
  if (typeof subject !== "object" || subject === null) {
    throw new UsageError(`--${option}: expected ${file} to have a default export { name, operators }`);
  }
  try {
    checkSubject(subject);
    return subject;
  } catch (error) {
    throw isMoeError(error) ? new UsageError(`--${option}: ${file}: ${error.message}`) : error;
  }
}

/** The subjects of several modules. If one cannot be loaded, those before it are closed: a process would be waited for. */
export async function loadSubjects(option: string, files: readonly string[]): Promise<Subject[]> {
  const subjects: Subject[] = [];
  try {
    for (const file of files) subjects.push(await loadSubject(option, file));
    return subjects;
  } catch (error) {
    await closeSubjects(subjects);
    throw error;
  }
}

/** The default export of a module, or what it is a promise of. */
async function load(option: string, file: string, url: URL, patience: Patience | undefined): Promise<unknown> {
  try {
    const { default: subject } = (await settled(import(url.href), patience)) as { readonly default?: unknown };
    return await settled(subject, patience);
  } catch (cause) {
    const [why] = messageOf(cause).split("\n");
    throw new MoeError("INVALID_ARGUMENT", `--${option}: ${file} cannot be loaded: ${why}`, { cause });
  }
}
