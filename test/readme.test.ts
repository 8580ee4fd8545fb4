import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runProgram } from "./support/run_program.js";

const readme = readFileSync("README.md", "utf8");
const programs = [...readme.matchAll(/```js\n(import .*?)```/gs)].map(([, program]) => program as string);

let directory: string;
beforeAll(() => {
  mkdirSync("build", { recursive: true });
  directory = mkdtempSync(join("build", "readme-")); // inside the package, so that its own name can be imported
});
afterAll(() => rmSync(directory, { recursive: true }));

test.each(programs.map((program, index) => [index, program] as const))(
  "example %i of the README runs",
  (index, program) => {
    const { status, stdout, stderr } = runProgram(directory, `example_${index}.mjs`, program);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).not.toBe("");
  },
);

test("the README has its examples and names every error code", () => {
  expect(programs).toHaveLength(3);
  const codes = [...readFileSync("lib/core/errors.ts", "utf8").matchAll(/^ {2}\| "([A-Z_]+)"/gm)].map(
    ([, code]) => code,
  );
  expect(codes.length).toBeGreaterThan(10);
  for (const code of codes) expect(readme).toContain(`| \`${code}\` |`);
});
