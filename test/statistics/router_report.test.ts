import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, expect, test, vi } from "vitest";
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

test("a page has the numbers and the charts, and needs no network", async () => {
  const path = join(directory.path, "report.html");
  await writeRouterReport(history, path, { title: "Layer <3> & more" });
  const page = readFileSync(path, "utf8");
  expect(page).toContain("<title>Layer &lt;3&gt; &amp; more</title>");
  expect(page).toContain("<dt>tokens</dt><dd>350</dd>");
  expect(page).toContain("<dt>dropped choices</dt><dd>0 of 350 (0.00%)</dd>");
  for (const title of ["Load over time", "Tokens per expert", "Maximum violation", "Mean entropy"]) {
    expect(page).toContain(`>${title}`);
  }
  // One path for each cell of the heat map: 20 calls of 4 experts.
  const cells = page.match(/<g class="mark-rect role-mark[^"]*marks"[^>]*>.*?<\/g>/s)?.[0] as string;
  expect(cells.match(/<path/g)).toHaveLength(80);
  expect(page).not.toMatch(/<script|<link|<img|src=|@import|url\(http/);
});

test("an .svg file has only the charts", async () => {
  const path = join(directory.path, "report.svg");
  await writeRouterReport(history, path);
  const svg = readFileSync(path, "utf8");
  expect(svg).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  expect(svg).toMatch(/<\/svg>\s*$/);
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
  await bad(undefined, /path: expected a name/);
  await bad(join(directory.path, "missing", "report.svg"), /path: expected a writable file, got .*ENOENT/);
});

test("without vega the error says what to install", async () => {
  vi.doMock("vega-lite", () => {
    throw new Error("Cannot find package 'vega-lite'");
  });
  await expectRejection(
    writeRouterReport(history, join(directory.path, "none.svg")),
    "UNSUPPORTED_OPERATION",
    /expected the package vega-lite, .*npm install vega@6 vega-lite@6/,
  );
});
