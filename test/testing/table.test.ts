import { describe, expect, test } from "vitest";
import { runCase } from "../../lib/testing/run.js";
import { cases } from "../../lib/testing/table.js";
import { kernelPaths, openForTests } from "../support/devices.js";

describe.each(kernelPaths)("the case table on $label", (path) => {
  const device = openForTests(path);

  test.each(cases.map((subject) => [subject.operator, subject.name, subject] as const))("%s: %s", async (...row) => {
    const { checks } = await runCase(row[2], device());
    expect(checks.length).toBeGreaterThan(0);
    expect(checks.filter((check) => !check.passed)).toEqual([]);
  });
});

test("names tell cases of one operator apart", () => {
  const names = cases.map(({ operator, name }) => `${operator}: ${name}`);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});
