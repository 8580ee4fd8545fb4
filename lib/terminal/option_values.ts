// What the texts of command-line options stand for.

/** A wrong command line, as against work that failed. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The integer that an option's text stands for. */
export function integerOption(name: string, text: string, minimum: number, maximum = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < minimum || value > maximum) {
    const range = maximum === Number.MAX_SAFE_INTEGER ? `>= ${minimum}` : `from ${minimum} to ${maximum}`;
    throw new UsageError(`--${name}: expected an integer ${range}, got "${text}"`);
  }
  return value;
}

/** The one of `choices` that an option's text names, in any case. */
export function choiceOption<T extends string>(name: string, text: string, choices: readonly T[]): T {
  const choice = choices.find((candidate) => candidate.toLowerCase() === text.toLowerCase());
  if (choice === undefined) throw new UsageError(`--${name}: expected one of ${choices.join(", ")}, got "${text}"`);
  return choice;
}

/** The entries of an option that may be repeated and may hold a comma-separated list. */
export function listOption(texts: readonly string[] | undefined): string[] {
  return (texts ?? []).flatMap((text) => text.split(",")).filter((entry) => entry !== "");
}
