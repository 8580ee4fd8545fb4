import { MoeError } from "../../core/errors.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import { difference } from "../difference.js";

/** What is thrown where there is nothing to resume. @param got what is there instead of the file at `path`. */
export function nothingToResume(path: string, got: string): MoeError {
  return new MoeError(
    "INVALID_ARGUMENT",
    `resume: expected ${path}, from an interrupted run, got ${got}; use --overwrite to begin again`,
  );
}

/**
 * Refuses to go on with what was begun from something else.
 * @param stored what the file at `path` says of it.
 * @param state what the result depends on.
 * @throws BAD_CHECKPOINT
 */
export function checkBegunState(path: string, stored: Readonly<Record<string, unknown>>, state: object): void {
  const other = difference(stored, JSON.parse(JSON.stringify(state)));
  if (other === undefined) return;
  throw badCheckpoint(path, `it was begun with other settings: ${other}; use --overwrite to begin again`);
}
