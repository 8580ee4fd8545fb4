import { isMoeError, MoeError } from "../core/errors.js";
import { UsageError } from "../terminal/option_values.js";

/** What the command line calls a parameter; undefined for what it does not have. */
export type TypedName = (parameter: string) => string | undefined;

/**
 * The error with names as they are on the command line, if it is about a parameter that an option is passed to: "tokenFormat: expected ..."
 * becomes "--token-format: expected ...". A value that cannot be worked with is then a wrong command line.
 */
export function aboutOptions(error: unknown, typedName: TypedName): unknown {
  // What is wrong with a file begins with its name, which may be that of an option.
  if (!isMoeError(error) || error.code === "BAD_CHECKPOINT" || error.code === "WRITE_FAILED") return error;
  const renamed = (name: string) => typedName(name) ?? name;
  const message = error.message
    // An option such as --layer 0,4-7 becomes a list: an entry's index in it means nothing to the user, and is left out.
    .replace(/^(\w+)(?:\[\d+\])?(?=: | cannot be combined with | requires )/, (text, name) => typedName(name) ?? text)
    .replace(/(?<=^--[\w-]+ (?:cannot be combined with|requires) )\w+$/, renamed);
  if (message === error.message) return error;
  const { code } = error;
  return code === "INVALID_ARGUMENT"
    ? new UsageError(message, { cause: error })
    : new MoeError(code, message, { cause: error });
}

/**
 * Names by which functions know options: "token-format" as tokenFormat, and as tokenFormats if it may be repeated.
 * @param others names of parameters that differ, and what is typed.
 */
export function typedNames(
  options: Readonly<Record<string, { readonly multiple?: boolean | undefined }>>,
  others: Readonly<Record<string, string>>,
): TypedName {
  const names = new Map<string, string>();
  for (const [option, { multiple }] of Object.entries(options)) {
    const name = option.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
    names.set(name, `--${option}`);
    if (multiple) names.set(`${name}s`, `--${option}`);
  }
  for (const [name, typed] of Object.entries(others)) names.set(name, typed);
  return (parameter) => names.get(parameter);
}
