import { extname } from "node:path";
import { invalidArgument } from "../core/errors.js";
import { escaped, htmlFacts, htmlPage } from "../core/markup.js";
import { type Fields, object, optional, text } from "../core/options.js";
import { checkWritable, drawChart, loadVega, writeChart } from "./draw_chart.js";
import { routerChart } from "./router_chart.js";
import { historyArgument, type RouterHistory } from "./router_history.js";

/** Options of {@link writeRouterReport}. */
export interface RouterReportOptions {
  /** Heading of the page; default "Router report". */
  title?: string;
}

/** What needs the packages, for errors. */
const drawing = "writeRouterReport";

const reportOptions = object(
  { title: optional(text, "Router report") } satisfies Fields<RouterReportOptions>,
  '{ title: "Layer 3" }',
);

/**
 * Draws a router's history as one self-contained file: an HTML page or, if `path` ends in .svg, the charts alone. Both
 * open in a browser without a network connection.
 *
 * Needs the packages vega and vega-lite, which are not installed with moe-kernels: `npm install vega@6 vega-lite@6`.
 *
 * @param history from RouterStats.read().
 * @param path ends in .html, .htm or .svg.
 * @throws INVALID_ARGUMENT, also if the file cannot be written; UNSUPPORTED_OPERATION without vega and vega-lite.
 */
export async function writeRouterReport(
  history: RouterHistory,
  path: string,
  options: RouterReportOptions = {},
): Promise<void> {
  const extension = checkExtension(path);
  const { title } = reportOptions(options, "options");
  const recorded = historyArgument(history, "history");
  const svg = await drawChart(routerChart(recorded), drawing);
  await writeChart(path, extension === ".svg" ? svg : page(title, recorded, svg));
}

/**
 * Checks in advance that {@link writeRouterReport} can write to `path`.
 * @throws the errors of {@link writeRouterReport}.
 */
export async function checkRouterReport(path: string): Promise<void> {
  checkExtension(path);
  await loadVega(drawing);
  await checkWritable(path);
}

function checkExtension(path: unknown): string {
  const extension = typeof path === "string" ? extname(path).toLowerCase() : "";
  if (![".html", ".htm", ".svg"].includes(extension)) throw invalidArgument("path", "a name in .html or .svg", path);
  return extension;
}

function page(title: string, history: RouterHistory, svg: string): string {
  const { calls, tokens, choices, dropped, tokensPerExpert, maximumViolation, meanEntropy } = history;
  const experts = tokensPerExpert.length;
  const unused = tokensPerExpert.filter((count) => count === 0).length;
  const share = choices === 0 ? 0 : dropped / choices;
  const facts: readonly (readonly [string, string])[] = [
    ["calls", grouped(calls)],
    ["tokens", grouped(tokens)],
    ["experts", `${experts}${unused > 0 ? `, ${unused} without tokens` : ""}`],
    ["dropped choices", `${grouped(dropped)} of ${grouped(choices)} (${(100 * share).toFixed(2)}%)`],
    ["maximum violation", maximumViolation.toFixed(3)],
    ["mean entropy", `${meanEntropy.toFixed(3)} of at most ${Math.log(experts).toFixed(3)}`],
  ];
  const style = "dd { font-variant-numeric: tabular-nums; }";
  return htmlPage({ title: escaped(title), width: 940, style, body: `${htmlFacts(facts)}\n${svg}` });
}

function grouped(count: number): string {
  return count.toLocaleString("en-US");
}
