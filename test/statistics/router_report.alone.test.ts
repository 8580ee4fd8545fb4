import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, expect, test, vi } from "vitest";
import type { RouterHistory } from "../../lib/statistics/router_history.js";
import { writeRouterReport } from "../../lib/statistics/router_report.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { expectRejection } from "../support/errors.js";
import { historyOf } from "./support/history.js";

const directory = temporaryDirectory();
const history = historyOf(Array.from({ length: 20 }, (_, call) => [call, 5, 2, 1]));

afterAll(() => directory[Symbol.dispose]());
afterEach(() => {
  vi.doUnmock("vega-lite");
});

test("a page has the numbers of every router as text, and needs no network", async () => {
  const path = join(directory.path, "report.html");
  const other = historyOf([
    [6, 0],
    [0, 6],
  ]);
  const routers = [
    { name: "Layer <3> & more", history, dtype: "bf16" },
    { name: "layer 4", history: other },
  ];
  await writeRouterReport(routers, path, { title: "<Model>", date: "a day", device: "cpu", about: "Random tokens." });
  const page = readFileSync(path, "utf8");
  expect(page).toContain("<title>&lt;Model&gt;</title>");
  expect(page).toContain("<p>Random tokens.</p>");
  expect(page).toContain("<dt>date</dt><dd>a day</dd>");
  expect(page).toContain("<dt>device</dt><dd>cpu</dd>");
  expect(page).toContain('<option value="0">Layer &lt;3&gt; &amp; more');
  const rows = [...page.matchAll(/<tr><td><a.*/g)].map(([row]) => row.split("<td>").slice(1).map(withoutMarkup));
  // All calls together are balanced in the other layer, no step is: the mean of its steps is an upper bound.
  expect(rows).toEqual([
    [
      "Layer &lt;3&gt; &amp; more",
      "bf16",
      "1",
      "4",
      "0",
      "",
      "350",
      "0.00%",
      "1.171",
      "1.343",
      "1.815",
      "1.00 of 1.39",
    ],
    ["layer 4", "–", "1", "2", "0", "", "12", "0.00%", "0.000", "1.000", "1.000", "1.00 of 0.69"],
  ]);
  for (const term of ["call", "step", "dtype", "top-k", "load", "maximum violation", "mean entropy"]) {
    expect(page).toContain(`<dt>${term}</dt>`);
  }
  expect(page).toMatch(/content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[\w+/]+='"/);
  expect(page).not.toMatch(/<link|<img|src=|@import|url\(|https?:/);
});

const withoutMarkup = (cell: string): string => cell.replaceAll(/<[^>]*>/g, "");

test("a history by itself is a page of one router, of now", async () => {
  const path = join(directory.path, "one.html");
  await writeRouterReport(history, path);
  const page = readFileSync(path, "utf8");
  expect(page).toContain("<title>Router report</title>");
  expect(page).toMatch(/<dt>date<\/dt><dd>20\d\d-\d\d-\d\d \d\d:\d\d UTC<\/dd>/);
  expect(page).not.toContain("<dt>device</dt>");
  expect(page.match(/<option/g)).toHaveLength(1);
});

test("no text ends the data of a page early", async () => {
  const path = join(directory.path, "names.html");
  const name = "</script><script>alert(1)</script>";
  await writeRouterReport([{ name, history }], path);
  const [, data] = /<script type="application\/json" id="data">(.*?)<\/script>/s.exec(readFileSync(path, "utf8")) ?? [];
  const [layer] = JSON.parse(data as string).layers;
  expect(layer).toMatchObject({ name, all: { calls: 20, tokens: 350, counts: [190, 100, 40, 20] } });
  expect(layer.steps).toHaveLength(20);
  expect(layer.steps[7]).toMatchObject({ first: 7, calls: 1, tokens: 15, counts: [7, 5, 2, 1] });
});

test("an .svg file has only the charts", async () => {
  const path = join(directory.path, "report.svg");
  await writeRouterReport(history, path);
  const svg = readFileSync(path, "utf8");
  expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  expect(svg).toMatch(/<\/svg>\s*$/);
  for (const title of ["Load over time", "Tokens per expert", "Maximum violation", "Mean entropy"]) {
    expect(svg).toContain(`>${title}`);
  }
  // One path for each cell of the heat map: 20 calls of 4 experts.
  const cells = svg.match(/<g class="mark-rect role-mark[^"]*marks"[^>]*>.*?<\/g>/s)?.[0] as string;
  expect(cells.match(/<path/g)).toHaveLength(80);
});

test("histories without calls or with many experts can be charted", async () => {
  await writeRouterReport(historyOf([]), join(directory.path, "empty.svg"));
  const many = historyOf(Array.from({ length: 64 }, () => Array.from({ length: 1100 }, (_, expert) => expert % 3)));
  await writeRouterReport(many, join(directory.path, "many.svg"));
  expect(readFileSync(join(directory.path, "many.svg"), "utf8").length).toBeLessThan(8e6);
});

test("bad input", async () => {
  const bad = (path: unknown, message: RegExp) =>
    expectRejection(writeRouterReport(history, path as string), "INVALID_ARGUMENT", message);
  await bad("report.pdf", /path: expected a name in \.html or \.svg, got "report\.pdf"/);
  await bad(undefined, /path: expected a path or a file: URL/);
  const refused = (routers: unknown, path: string, message: RegExp) =>
    expectRejection(writeRouterReport(routers as RouterHistory, path), "INVALID_ARGUMENT", message);
  await refused([], "report.html", /routers: expected a history, or a list with at least one router/);
  await refused([{ history }], "report.html", /routers\[0\]\.name: expected a string/);
  await refused([{ name: "a", history: {} }], "report.html", /routers\[0\]\.history/);
  const one = { name: "a", history };
  await refused([one, one], "report.svg", /path: expected a name in \.html, since \.svg has the charts of one router/);
  const missing = writeRouterReport(history, join(directory.path, "missing", "report.svg"));
  await expectRejection(missing, "WRITE_FAILED", /path: expected a writable file, got .*ENOENT/);
});

test("without vega a page can be written, and the error for .svg says what to install", async () => {
  vi.doMock("vega-lite", () => {
    throw new Error("Cannot find package 'vega-lite'");
  });
  await writeRouterReport(history, join(directory.path, "none.html"));
  await expectRejection(
    writeRouterReport(history, join(directory.path, "none.svg")),
    "UNSUPPORTED_OPERATION",
    /expected the package vega-lite, .*npm install vega@6 vega-lite@6/,
  );
});
