import { describe } from "../core/errors.js";
import { nearestHint } from "../core/input/nearest_name.js";

/**
 * What an error says of a model whose family is not known: the name that the file may misspell, what to do about others, and
 * where the known ones are listed.
 * @param field of the file, which names the family.
 * @param ways to load a layer of a family that is not known.
 */
export function unknownFamily(
  field: string,
  given: unknown,
  known: readonly string[],
  ways: readonly string[],
): string {
  const hint = typeof given === "string" ? nearestHint(given, known) : "";
  return (
    `${field}: expected a known model family, got ${given === undefined ? "none" : describe(given)}` +
    `${hint === "" ? "; say" : `${hint} If not, say`} what a layer computes and how its tensors are named: ${ways.join(" or ")}. ` +
    "`moe-kernels info --families` lists those that are known"
  );
}
