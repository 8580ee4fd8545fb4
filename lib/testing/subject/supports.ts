import { MoeError, messageOf } from "../../core/errors.js";
import { type Patience, settled } from "./settled.js";
import type { Subject, SubjectInputs, SubjectOperatorName } from "./subject.js";

/**
 * Whether a subject says that it can compute a case.
 * @throws INVALID_ARGUMENT if it fails to say.
 */
export async function isSupported(
  subject: Subject,
  operator: SubjectOperatorName,
  inputs: SubjectInputs,
  patience?: Patience,
): Promise<boolean> {
  try {
    return (await settled(subject.supports?.(operator, inputs), patience)) !== false;
  } catch (cause) {
    throw new MoeError("INVALID_ARGUMENT", `supports: ${messageOf(cause)}`, { cause });
  }
}
