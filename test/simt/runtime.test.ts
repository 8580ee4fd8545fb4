// The simt runtime's own tests, which are C++: each becomes a test here.
import { describe, expect, test } from "vitest";
import { buildSimtTests } from "../../scripts/simt_tests.mjs";

const run = buildSimtTests();

describe.each(["moe_simt_tests", "moe_simt_broken_tests"])("%s", (executable) => {
  const names = run(executable, ["--list"]).output.trim().split("\n");
  const { status, output } = run(executable, []);

  test.each(names)("%s", (name) => {
    // A failed test is followed by what failed, indented.
    const verdict = output.match(new RegExp(`^(pass|FAIL) ${name}\n(  .*\n)*`, "m"))?.[0];
    expect(verdict ?? output).toBe(`pass ${name}\n`);
  });

  test("ends well", () => {
    expect(status).toBe(0);
    expect(output).toContain(`${names.length} passed, 0 failed\n`);
  });
});
