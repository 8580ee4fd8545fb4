import { describe, expect, test } from "vitest";
import { runCase } from "../../lib/testing/run.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { extensionCases } from "./operators.js";

describe.each(kernelPaths)("an operator added from outside on $label", (path) => {
  const device = openForTests(path);

  test.each(extensionCases.map((subject) => [subject.name, subject] as const))("%s", async (_, subject) => {
    const { checks } = await runCase(subject, device());
    expect(checks.length).toBeGreaterThan(0);
    expect(checks.filter((check) => !check.passed)).toEqual([]);
  });
});
