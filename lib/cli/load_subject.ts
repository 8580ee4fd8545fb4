import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { UsageError } from "../terminal/option_values.js";
import type { Subject } from "../testing/subject/subject.js";

/** The subject that a module exports, named by an option. */
export async function loadSubject(option: string, file: string): Promise<Subject> {
  const loaded = (await import(pathToFileURL(resolve(file)).href)) as { default?: Subject };
  if (typeof loaded.default !== "object" || loaded.default === null) {
    throw new UsageError(`--${option}: expected ${file} to have a default export { name, operators }`);
  }
  return loaded.default;
}
