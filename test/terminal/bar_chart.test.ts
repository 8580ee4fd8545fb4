import { expect, test } from "vitest";
import { barChart } from "../../lib/terminal/bar_chart.js";

test("bars are to scale, with the largest count and the bars' numbers", () => {
  expect(barChart([40, 20, 1, 0], 80)).toBe(
    [
      "40 │███",
      "   │███",
      "   │███ ▄▄▄",
      "   │███ ███",
      "   │███ ███ ▁▁▁",
      " 0 └────────────────",
      "    0   1   2   3",
      "",
    ].join("\n"),
  );
});

test("more bars than fit continue below, to the same scale", () => {
  const lines = barChart(
    Array.from({ length: 64 }, (_, index) => index),
    43,
  ).split("\n");
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(43);
  expect(lines.filter((line) => line.startsWith("63 │"))).toHaveLength(2);
  expect(lines.filter((line) => line.startsWith(" 0 └"))).toHaveLength(2);
});

test("draws more bars than a call can have arguments", () => {
  expect(barChart(Array<number>(200_000).fill(3), 80)).toContain("3 │██");
});

test("draws all zeros, and no bars at all", () => {
  expect(barChart([0, 0], 80)).toContain("0 └────────");
  expect(barChart([], 80)).toBe("");
});
