import { nearestHint } from "../core/input/nearest_name.js";

// Parses the values of command-line options.

/** A wrong command line, as opposed to work that failed. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Parses an integer option; throws UsageError. */
export function integerOption(name: string, text: string, minimum: number, maximum = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < minimum || value > maximum) {
    const open = maximum === Number.MAX_SAFE_INTEGER && !(value > maximum);
    const range = open ? `>= ${minimum}` : `from ${minimum} to ${maximum}`;
    throw new UsageError(`--${name}: expected an integer ${range}, got "${text}"`);
  }
  return value;
}

/** Parses a time in seconds; throws UsageError. */
export function secondsOption(name: string, text: string): number {
  const seconds = Number(text);
  if (seconds > 0 && Number.isFinite(seconds)) return seconds;
  throw new UsageError(`--${name}: expected seconds > 0, got "${text}"`);
}

/**
 * The entry of `choices` that an option names, ignoring case; throws UsageError.
 * @param others what else the option takes, for the error.
 */
export function choiceOption<T extends string>(name: string, text: string, choices: readonly T[], others = ""): T {
  const choice = choices.find((candidate) => candidate.toLowerCase() === text.toLowerCase());
  if (choice !== undefined) return choice;
  const expected = `one of ${choices.join(", ")}${others}`;
  throw new UsageError(`--${name}: expected ${expected}, got "${text}"${nearestHint(text, choices)}`);
}

/**
 * The entries of an option that may be repeated and may hold a comma-separated list, none if it is not given; throws UsageError for a
 * list without entries.
 */
export function listOption(name: string, texts: readonly string[] | undefined): string[] {
  const entries = (texts ?? []).flatMap((text) => text.split(",")).filter((entry) => entry !== "");
  if (texts === undefined || entries.length > 0) return entries;
  throw new UsageError(`--${name}: expected at least one, got none`);
}

/** The integers from 0 on of a {@link listOption} whose entries may be ranges, ascending and each once: "0,4-6" is 0, 4, 5, 6; throws UsageError. */
export function integerListOption(name: string, texts: readonly string[] | undefined): number[] {
  const numbers = listOption(name, texts).flatMap((entry) => {
    const [, from, to] = /^(\d+)-(\d+)$/.exec(entry) ?? [undefined, entry, entry];
    const first = integerOption(name, from as string, 0);
    const last = integerOption(name, to as string, 0, first + longestRange);
    if (last < first) throw new UsageError(`--${name}: expected a range from low to high, got "${entry}"`);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  return [...new Set(numbers)].sort((a, b) => a - b);
}

const longestRange = 100_000;
