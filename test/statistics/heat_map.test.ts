import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { heatMap } from "../../lib/statistics/heat_map.js";
import { joinWindows } from "../../lib/statistics/router_history.js";
import { expectError } from "../support/errors.js";
import { historyOf } from "./support/history.js";

test("a line for each expert, a cell for each call", () => {
  const history = historyOf([
    [4, 0, 0, 0],
    [1, 1, 1, 1],
    [0, 2, 1, 1],
  ]);
  expect(heatMap(history, { columns: 40 })).toBe(
    [
      "0 │███···   ",
      "1 │   ···▒▒▒",
      "2 │   ······",
      "3 │   ······",
      "  └─────────",
      "   call 0  2",
      "tokens / mean of the experts: 0  ·░▒▓█ 4.0",
      "",
    ].join("\n"),
  );
});

test("in colour two experts share a line, and an odd last one has its own", () => {
  const history = historyOf([
    [9, 0, 0],
    [3, 3, 3],
  ]);
  const text = heatMap(history, { columns: 30, color: true });
  const [first, second] = text.split("\n") as [string, string];
  expect(first).toContain("\u001b[38;5;226m\u001b[48;5;234m▀▀▀\u001b[0m");
  expect(second).toContain("\u001b[38;5;234m▀▀▀\u001b[0m");
  expect(stripVTControlCharacters(text).split("\n").slice(0, 3)).toEqual(["0 │▀▀▀▀▀▀", "2 │▀▀▀▀▀▀", "  └──────"]);
});

test("never wider than requested, however many windows; no calls are lost", () => {
  for (const windows of [1, 7, 60, 61, 500]) {
    const history = historyOf(Array.from({ length: windows }, (_, window) => [window, 1, 2, 3, 4]));
    for (const color of [false, true]) {
      const lines = stripVTControlCharacters(heatMap(history, { columns: 63, color })).split("\n");
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(63);
    }
    const joined = joinWindows(history.windows, 60);
    expect(joined.length).toBeLessThanOrEqual(60);
    const sums = history.tokensPerExpert.map((_, expert) =>
      joined.reduce((sum, { tokensPerExpert }) => sum + (tokensPerExpert[expert] as number), 0),
    );
    expect(sums).toEqual(history.tokensPerExpert);
  }
});

test("no calls, no tokens, bad options", () => {
  const nothing = historyOf([]);
  expect(heatMap(nothing)).toBe("no calls recorded\n");
  expect(heatMap(historyOf([[0, 0]]))).toMatch(/^0 │ {3}\n1 │ {3}\n/);
  expectError(() => heatMap(nothing, { columns: 5 }), "INVALID_ARGUMENT", /columns: expected an integer >= 20, got 5/);
  expectError(() => heatMap(nothing, { color: 1 as never }), "INVALID_ARGUMENT", /color: expected a boolean, got 1/);
});
