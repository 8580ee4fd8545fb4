import { describe, expect, test } from "vitest";
import { runCase } from "../../lib/testing/run.js";
import { cases } from "../../lib/testing/table.js";
import { kernelPaths, openForTests } from "../support/devices.js";

// One case after another on all devices: its numbers are drawn and its results computed once for them.
describe("the case table", () => {
  const devices = kernelPaths.map((path) => ({ label: path.label, device: openForTests(path) }));
  const rows = cases.flatMap((testCase) =>
    devices.map(({ label, device }) => [testCase.operator, testCase.name, label, testCase, device] as const),
  );

  test.each(rows)("%s: %s on %s", async (_operator, _name, _label, testCase, device) => {
    const { checks } = await runCase(testCase, device());
    expect(checks.length).toBeGreaterThan(0);
    expect(checks.filter((check) => !check.passed)).toEqual([]);
  });
});

test("names tell cases of one operator apart", () => {
  const names = cases.map(({ operator, name }) => `${operator}: ${name}`);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});
