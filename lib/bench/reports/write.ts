import { extname } from "node:path";
import { invalidArgument } from "../../core/errors.js";
import { checkWritable, drawChart, loadVega, writeChart } from "../../statistics/draw_chart.js";

/** What needs the packages, for errors. */
const drawing = "moe-kernels bench --chart";

/**
 * Checks in advance that {@link writePage} can write to `path`.
 * @throws INVALID_ARGUMENT; UNSUPPORTED_OPERATION without vega and vega-lite.
 */
export async function checkPage(path: string): Promise<void> {
  extensionOf(path);
  await loadVega(drawing);
  await checkWritable(path);
}

/** Writes a chart: alone if `path` ends in .svg, else within a page. */
export async function writePage(path: string, specification: object, page: (svg: string) => string): Promise<void> {
  const extension = extensionOf(path);
  const svg = await drawChart(specification, drawing);
  await writeChart(path, extension === ".svg" ? svg : page(svg));
}

function extensionOf(path: string): string {
  const extension = extname(path).toLowerCase();
  if (![".html", ".htm", ".svg"].includes(extension)) throw invalidArgument("path", "a name in .html or .svg", path);
  return extension;
}
