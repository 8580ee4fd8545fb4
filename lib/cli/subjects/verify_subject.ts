import { printable } from "../../core/text/printable.js";
import { integerOption, listOption, secondsOption, UsageError } from "../../terminal/option_values.js";
import { outputListOption } from "../../terminal/output_file.js";
import { withProgress } from "../../terminal/progress.js";
import { caseContains } from "../../testing/case_filter.js";
import { formatReport, type ReportFormat } from "../../testing/reports/report.js";
import { runCases, type SubjectReport } from "../../testing/subject/run_cases.js";
import { defaultTimeout } from "../../testing/subject/settled.js";
import { testCases } from "../../testing/subject/test_cases.js";
import type { Io } from "../io.js";
import { redirectForeignOutput } from "./foreign_output.js";
import { loadSubject } from "./load_subject.js";

interface Values {
  readonly subject: string;
  readonly filter?: string | undefined;
  readonly seed?: string | undefined;
  readonly repeat: number;
  readonly timeout?: string | undefined;
  readonly report?: readonly string[] | undefined;
  readonly json?: boolean | undefined;
  readonly device?: readonly string[] | undefined;
  readonly threads?: string | undefined;
}

const formats: Readonly<Record<string, ReportFormat>> = { ".json": "json", ".xml": "junit", ".html": "html" };

/** `verify --subject`: runs the cases on an implementation from outside. */
export async function verifySubject(values: Values, io: Io): Promise<number> {
  for (const option of ["device", "threads"] as const) {
    if (values[option] !== undefined) throw new UsageError(`--${option} cannot be combined with --subject`);
  }
  const seed = values.seed === undefined ? 0 : integerOption("seed", values.seed, 0);
  const files = await outputListOption("report", listOption("report", values.report), Object.keys(formats));
  const timeout = values.timeout === undefined ? defaultTimeout : secondsOption("timeout", values.timeout);
  const report = await reportOn(values, { seed, timeout }, io);
  io.stdout.write(formatReport(report, values.json ? "json" : "table"));
  for (const file of files) await file.write(formatReport(report, formats[file.extension] as ReportFormat));
  return report.passed ? 0 : 1;
}

async function reportOn(
  { subject: file, filter = "", repeat }: Values,
  { seed, timeout }: { readonly seed: number; readonly timeout: number },
  io: Io,
): Promise<SubjectReport> {
  using _ = redirectForeignOutput();
  const subject = await loadSubject("subject", file, { seconds: timeout });
  const selected = testCases.filter(
    (one) => subject.operators?.[one.operator] !== undefined && caseContains(one, filter),
  );
  return await withProgress(io.stderr, `Verifying ${printable(String(subject.name))}`, selected.length, (update) => {
    const onResult = (_result: unknown, done: number) => update(done);
    return runCases(subject, { filter, seed, repeat, timeout, onResult });
  });
}
