import { isMoeError } from "../core/errors.js";
import { UsageError } from "../terminal/option_values.js";

/**
 * The error as one of the command line if it is about a parameter whose value is an option's: "tokenFormat: expected ..." becomes
 * "--token-format: expected ...".
 * @param options by parameter.
 */
export function aboutOptions(error: unknown, options: Readonly<Record<string, string>>): unknown {
  if (!isMoeError(error, "INVALID_ARGUMENT")) return error;
  const named = (name: string) => (Object.hasOwn(options, name) ? `--${options[name]}` : name);
  const message = error.message.replace(/^\w+|(?<= cannot be combined with )\w+$/g, named);
  return message === error.message ? error : new UsageError(message, { cause: error });
}
