import { escaped, htmlPage } from "../../core/text/markup.js";
import { formatError } from "../../terminal/format.js";
import type { SubjectReport, SubjectResult } from "../subject/run_cases.js";
import { problemsOf } from "./problems.js";

/** One self-contained page: failures first, then every case with its errors. */
export function htmlReport({ subject, seed, seconds, results, skipped, untested }: SubjectReport): string {
  const failed = results.filter(({ passed }) => !passed);
  const verdict =
    results.length === 0 ? "nothing was tested" : failed.length === 0 ? "all passed" : `${failed.length} failed`;
  const title = escaped(`${subject}: ${results.length} cases, ${verdict}`);
  const operators = [...new Set(results.map(({ operator }) => operator))];
  const sections = operators.map((operator) => {
    const own = results.filter((result) => result.operator === operator);
    const wrong = own.filter(({ passed }) => !passed).length;
    const count = `${own.length} cases${wrong > 0 ? `, <b class="failed">${wrong} failed</b>` : ""}`;
    return `<details${wrong > 0 ? " open" : ""}>
<summary><code>${escaped(operator)}</code>: ${count}</summary>
<table>
<tr><th>case<th>output<th>error<th>tolerance<th>because
${own.map(rows).join("\n")}
</table>
</details>`;
  });
  const body = `<p>Errors are relative to the largest expected magnitude of an output; what is expected was computed in float64. Seed ${seed}, ${seconds.toFixed(1)} s.${skipped.length > 0 ? ` Skipped as not supported: ${skipped.length} cases.` : ""}${untested.length > 0 ? ` Not tested: ${escaped(untested.join(", "))}.` : ""}</p>
${sections.join("\n")}`;
  return htmlPage({ title, width: 1100, style, body });
}

const style = `summary { cursor: pointer; padding: .2rem 0; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; width: 100%; font-size: .85rem; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
.failed { color: var(--bad); }`;

function rows(result: SubjectResult): string {
  const { name, checks, failure } = result;
  const text = escaped(name);
  const problem =
    failure === null ? [] : [`<tr class="failed"><td>${text}<td colspan="4">${escaped(problemsOf(result).join("; "))}`];
  const compared = checks.map(({ output, error, tolerance, why, passed }) => {
    const cells = [
      text,
      escaped(output),
      formatError(error),
      tolerance === 0 ? "exact" : formatError(tolerance),
      escaped(why),
    ];
    return `<tr${passed ? "" : ' class="failed"'}>${cells.map((cell) => `<td>${cell}`).join("")}`;
  });
  return [...problem, ...compared].join("\n");
}
