import { extname } from "node:path";
import { invalidArgument } from "../core/errors.js";
import { type FilePath, filePath } from "../core/files/file_path.js";
import { writeOutput } from "../core/files/output_file.js";
import { isArray } from "../core/input/foreign.js";
import { type Fields, list, object, optional, type Reader, text } from "../core/input/options.js";
import { drawChart, loadVega } from "./draw_chart.js";
import { type PageHead, routerPage } from "./report_page/page.js";
import type { ReportedRouter } from "./report_page/summaries.js";
import { routerChart } from "./router_chart.js";
import { historyArgument, type RouterHistory } from "./router_history.js";

/** Options of {@link writeRouterReport}. */
export interface RouterReportOptions {
  /** Heading of the page; default "Router report". */
  title?: string | undefined;
  /** When it was recorded; default now. */
  date?: string | undefined;
  /** The device that recorded it, such as `device.name`. */
  device?: string | undefined;
  /** A paragraph below the heading: which tokens these were, for example. */
  about?: string | undefined;
}

/** The extensions that a report's name can have. */
export const reportExtensions: readonly string[] = [".html", ".htm", ".svg"];

/** What needs vega and vega-lite, for errors. */
const drawing = "writeRouterReport to .svg";

const reportOptions = object(
  {
    title: optional(text, "Router report"),
    date: optional(text),
    device: optional(text),
    about: optional(text),
  } satisfies Fields<RouterReportOptions>,
  '{ title: "Layer 3" }',
);
const routerList = list(
  object(
    { name: text, history: historyArgument, dtype: optional(text) } satisfies Fields<ReportedRouter>,
    '{ name: "layer 3", history: await stats.read(), dtype: "bf16" }',
  ),
);

/** One history, or a list of routers with theirs. */
const routersArgument: Reader<readonly ReportedRouter[]> = (value, name) => {
  if (!isArray(value)) return [{ name: "router", history: historyArgument(value, name) }];
  const routers = routerList(value, name);
  if (routers.length === 0) throw invalidArgument(name, "a history, or a list with at least one router", value);
  return routers;
};

/**
 * Writes what one router or several did as one self-contained file: an HTML page where layer and step can be chosen, which
 * draws itself and opens without a network connection, or, if `path` ends in .svg, charts of one router.
 *
 *     const routers = [{ name: "layer 3", history: await stats.read(), dtype: "bf16" }];
 *     await writeRouterReport(routers, "report.html", { device: stats.device.name });
 *
 * Charts in .svg need the packages vega and vega-lite, which are not installed with moe-kernels: `npm install vega@6 vega-lite@6`.
 *
 * @param routers a history from RouterStats.read(), or a list of them with the names of their layers.
 * @param path ends in .html, .htm or .svg.
 * @throws INVALID_ARGUMENT; WRITE_FAILED if the file cannot be written; UNSUPPORTED_OPERATION for .svg without vega and vega-lite.
 */
export async function writeRouterReport(
  routers: RouterHistory | readonly ReportedRouter[],
  path: FilePath,
  options: RouterReportOptions = {},
): Promise<void> {
  const file = filePath(path, "path");
  const extension = checkExtension(file);
  const read = reportOptions(options, "options");
  const reported = routersArgument(routers, "routers");
  checkCount(file, extension, reported.length);
  await writeOutput(file, await routerReport(reported, extension, read), "path");
}

/** The text of a file that {@link writeRouterReport} writes. @param extension of its name. */
export async function routerReport(
  routers: readonly ReportedRouter[],
  extension: string,
  { date = now(), ...head }: Omit<PageHead, "date"> & { readonly date?: string | undefined },
): Promise<string> {
  if (extension !== ".svg") return routerPage({ ...head, date }, routers);
  return await drawChart(routerChart((routers[0] as ReportedRouter).history), drawing);
}

/**
 * Checks in advance that {@link routerReport} can have this many routers in a file with such a name.
 * @throws INVALID_ARGUMENT; UNSUPPORTED_OPERATION for .svg without vega and vega-lite.
 */
export async function checkRouterReport(path: string, routers: number): Promise<void> {
  const extension = checkExtension(path);
  if (extension === ".svg") await loadVega(drawing);
  checkCount(path, extension, routers);
}

function checkExtension(path: string): string {
  const extension = extname(path).toLowerCase();
  if (!reportExtensions.includes(extension)) throw invalidArgument("path", "a name in .html or .svg", path);
  return extension;
}

function checkCount(path: string, extension: string, routers: number): void {
  if (routers === 1 || extension !== ".svg") return;
  throw invalidArgument(
    "path",
    `a name in .html, since .svg has the charts of one router and there are ${routers}`,
    path,
  );
}

function now(): string {
  return `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
