import { MoeError } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";

/** What is thrown where there is nothing to resume. @param got what is there instead of the file at `path`. */
export function nothingToResume(path: string, got: string): MoeError {
  return new MoeError(
    "INVALID_ARGUMENT",
    `resume: expected ${path}, with which quantize began, got ${got}; --overwrite begins again`,
  );
}

/**
 * Refuses to go on with what was begun from something else.
 * @param stored what the file at `path` says of it.
 * @param state what the result depends on.
 * @throws BAD_CHECKPOINT
 */
export function checkBegunState(path: string, stored: Readonly<Record<string, unknown>>, state: object): void {
  const expected: Readonly<Record<string, unknown>> = JSON.parse(JSON.stringify(state));
  const other = Object.keys(expected).find((key) => JSON.stringify(stored[key]) !== JSON.stringify(expected[key]));
  if (other !== undefined) throw badCheckpoint(path, `it was begun with another ${other}; --overwrite begins again`);
}
