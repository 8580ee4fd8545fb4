import { differenceText } from "../difference.js";
import type { SubjectResult } from "../subject/run_cases.js";

/** What is wrong with a failed case, in words. */
export function problemsOf({ failure, checks }: SubjectResult): string[] {
  const wrong = checks.filter(({ passed }) => !passed);
  return [...(failure === null ? [] : [failure]), ...wrong.map(differenceText)];
}
