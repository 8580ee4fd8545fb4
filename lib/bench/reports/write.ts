import { drawChart, loadVega } from "../../statistics/draw_chart.js";
import { type OutputFile, outputOption } from "../../terminal/output_file.js";

/** What needs the packages, for errors. */
const drawing = "moe-kernels bench --chart";

/**
 * The file of `--chart`, for {@link writePage}; undefined if it is not given.
 * @throws UsageError for another name; INVALID_ARGUMENT if it cannot be written; UNSUPPORTED_OPERATION without vega and vega-lite.
 */
export async function chartOption(path: string | undefined): Promise<OutputFile | undefined> {
  const file = await outputOption("chart", path, [".html", ".htm", ".svg"]);
  if (file !== undefined) await loadVega(drawing);
  return file;
}

/** Writes a chart: alone into a file in .svg, else within a page. */
export async function writePage(file: OutputFile, specification: object, page: (svg: string) => string): Promise<void> {
  const svg = await drawChart(specification, drawing);
  await file.write(file.extension === ".svg" ? svg : page(svg));
}
