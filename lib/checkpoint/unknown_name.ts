import { nearestHint } from "../core/nearest_name.js";

/**
 * How an error about a name in a file that is not among the known ones goes on: the one that it may misspell, and what there
 * is for others, which follows "for".
 */
export function otherNames(given: unknown, known: readonly string[], remedy: string): string {
  const hint = typeof given === "string" ? nearestHint(given, known) : "";
  return hint === "" ? `; for ${remedy}` : `${hint} For ${remedy}`;
}
