import { escaped, htmlFacts, htmlPage } from "../../core/text/markup.js";
import { plural } from "../../terminal/format.js";
import { ceilingsText, kernelText } from "../ceilings.js";
import type { Comparison } from "../compare.js";
import { type BenchGroup, type BenchReport, groupsInTurns, groupsText, groupText } from "../report.js";
import { comparisonTable, contenderTable, formatTable, resultTable, type Table } from "./tables.js";

/** A report as one self-contained page. */
export function reportPage(report: BenchReport, svg: string): string {
  const { machine, device, description, groups, rounds, calls } = report;
  const facts: readonly Fact[] = [
    ["device", `${device}: ${description}`],
    ["processor", machine.cpu.model],
    ["instruction set", machine.cpu.isa],
    ["date", machine.date.slice(0, 16).replace("T", " ")],
    ["moe-kernels", machine.version],
    ["runtime", machine.runtime],
    ["measured in", `${plural(rounds, "turn")}${calls > 1 ? `, ${calls} calls between two waits` : ""}`],
  ];
  const text = `Time: from the call until its results are ready, the median and the quartiles of all calls. On device: how long
the device's stream worked on it. Call: until the call returned. GFLOP/s, GB/s and the share of the ceiling are those of the time
on the device; the ceiling is the time to read the bytes or to do the operations at this machine's measured rates, whichever is
longer. Above 100 %, data came from caches.`;
  return page("Benchmark of moe-kernels", facts, text, svg, sections(groups));
}

/** Every group, and after those of a shape how they compare. */
function sections(groups: readonly BenchGroup[]): string {
  return groupsInTurns(groups)
    .flatMap((own) => {
      const formats = formatTable(own);
      const compared = formats && `<h2>${escaped(groupsText(own))}</h2>\n${htmlTable(formats)}`;
      return [...own.map(groupSection), ...(compared ? [compared] : [])];
    })
    .join("\n");
}

function groupSection(group: BenchGroup): string {
  const { ceilings, kernel, results } = group;
  const limits =
    ceilings && kernel
      ? `<p>Ceilings: ${escaped(ceilingsText(ceilings))}.<br>Kernel: ${escaped(kernelText(ceilings, kernel))}.</p>`
      : "";
  const contenders = contenderTable({ results });
  return `<h2>${escaped(groupText(group))}</h2>
${limits}
${htmlTable(resultTable(results))}
${contenders ? `<h3>Contenders</h3>\n${htmlTable(contenders)}` : ""}`;
}

/** A comparison as one self-contained page. */
export function comparisonPage(comparison: Comparison, names: { before: string; after: string }, svg: string): string {
  const facts: readonly Fact[] = [
    ["before", names.before],
    ["after", names.after],
    ["cases", String(comparison.cases.length)],
    ["mean of after / before", comparison.meanRatio.toFixed(3)],
  ];
  const text = `Ratios of median times; less than 1 is faster. A case is faster or slower if the middle halves of its samples lie apart.`;
  const groups = [...new Set(comparison.cases.map(({ group }) => group))].map((group) => {
    const cases = comparison.cases.filter((one) => one.group === group);
    return `<h2>${escaped(group)}</h2>\n${htmlTable(comparisonTable({ ...comparison, cases }))}`;
  });
  return page("Two benchmarks of moe-kernels", facts, text, svg, groups.join("\n"));
}

type Fact = readonly [name: string, value: string];

function htmlTable({ columns, rows }: Table): string {
  const cell = (tag: string, text: string, index: number) =>
    `<${tag}${columns[index]?.align === "right" ? ' class="number"' : ""}>${escaped(text)}`;
  const line = (tag: string, cells: readonly string[]) =>
    `<tr>${cells.map((text, index) => cell(tag, text, index)).join("")}`;
  const headings = columns.map(({ heading }) => heading);
  return `<table>\n${[line("th", headings), ...rows.map((row) => line("td", row))].join("\n")}\n</table>`;
}

const style = `h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: .85rem; }
th, td { text-align: left; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }`;

function page(title: string, facts: readonly Fact[], text: string, svg: string, sections: string): string {
  const list = htmlFacts(facts.map(([name, value]) => [name, escaped(value)]));
  return htmlPage({ title: escaped(title), width: 1100, style, body: `${list}\n<p>${text}</p>\n${svg}\n${sections}` });
}
