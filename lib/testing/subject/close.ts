import { messageOf } from "../../core/errors.js";
import { type Patience, settled } from "./settled.js";
import type { Subject } from "./subject.js";

/** Closes subjects, after their work. One that fails to close costs neither a report nor another's end: it gives a warning. */
export async function closeSubjects(subjects: readonly Subject[], patience?: Patience): Promise<void> {
  for (const subject of subjects) {
    try {
      await settled(subject.close?.(), patience);
    } catch (cause) {
      process.emitWarning(`close() of ${subject.name} failed: ${messageOf(cause)}`);
    }
  }
}
