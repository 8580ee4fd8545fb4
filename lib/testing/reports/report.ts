import { checkChoice } from "../../core/errors.js";
import { finiteOrText } from "../../core/text/finite_json.js";
import { printable } from "../../core/text/printable.js";
import { formatMicroseconds, plural } from "../../terminal/format.js";
import type { SubjectReport } from "../subject/run_cases.js";
import { htmlReport } from "./html.js";
import { junitReport } from "./junit.js";
import { problemsOf } from "./problems.js";
import { worstErrors } from "./worst_errors.js";

const reportFormats = ["table", "json", "junit", "html"] as const;
/**
 * `table` is for a terminal, `junit` XML for test runners, `html` one self-contained page.
 *
 * @useDeclaredType
 */
export type ReportFormat = (typeof reportFormats)[number];

/** A report as text. Errors that are no JSON numbers are strings in JSON. */
export function formatReport(report: SubjectReport, format: ReportFormat): string {
  checkChoice("format", format, reportFormats);
  if (format === "json") return `${JSON.stringify(report, finiteOrText, 2)}\n`;
  if (format === "junit") return junitReport(report);
  return format === "html" ? htmlReport(report) : tableReport(report);
}

function tableReport({ subject, seconds, results, skipped, untested }: SubjectReport): string {
  const failed = results.filter(({ passed }) => !passed);
  const verdict =
    results.length === 0 ? "✘ nothing was tested" : failed.length === 0 ? "✔ passed" : `✘ ${failed.length} failed`;
  return [
    `${printable(subject)}: ${plural(results.length, "case")} in ${formatMicroseconds(seconds * 1e6)}, ${verdict}`,
    "",
    worstErrors(results),
    ...failed.map((result) => `✘ ${result.operator} ${result.name}: ${indented(problemsOf(result).join("; "))}`),
    ...(skipped.length > 0 ? [`Skipped: ${plural(skipped.length, "case")} that the subject does not support`] : []),
    ...(untested.length > 0 ? [`Not tested: ${untested.join(", ")}`] : []),
    "",
  ].join("\n");
}

/** Text from outside, perhaps of several lines, such as a compiler's errors. */
const indented = (text: string): string => text.split("\n").map(printable).join("\n    ");
