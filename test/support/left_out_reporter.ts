import { relative } from "node:path";
import type { Plugin } from "vitest/config";
import type { Reporter, TestCase, TestModule } from "vitest/node";
import { renderTable } from "../../lib/terminal/table.js";
import type { Lack } from "./requirements.js";

/** What a test that was left out lacks; undefined where the failure of another one kept it from running. */
function lackOf(test: TestCase): Lack | undefined {
  const { lack } = test.meta();
  if (lack !== undefined || !test.module.ok()) return lack;
  const path = relative(test.project.config.root, test.module.moduleId);
  return { requirement: `unknown, in ${path}`, remedy: "name it there with needs()" };
}

/** A table of what tests lacked that did not run, and of how many these are. Empty if all ran. */
function leftOutTable(modules: readonly TestModule[]): string {
  const rows = new Map<string, Lack & { tests: number }>();
  let all = 0;
  for (const test of modules.flatMap((module) => [...module.children.allTests()])) {
    all++;
    const lack = test.result().state === "skipped" ? lackOf(test) : undefined;
    if (lack === undefined) continue;
    const key = `${lack.requirement}\n${lack.remedy}`;
    rows.set(key, { ...lack, tests: (rows.get(key)?.tests ?? 0) + 1 });
  }
  if (rows.size === 0) return "";
  const sorted = [...rows.values()].sort((a, b) => b.tests - a.tests);
  const sum = sorted.reduce((before, { tests }) => before + tests, 0);
  const columns = [
    { heading: "tests", align: "right" },
    { heading: "what they need" },
    { heading: "how to get it" },
  ] as const;
  const cells = sorted.map(({ tests, requirement, remedy }) => [String(tests), requirement, remedy]);
  return `\n${sum} of ${all} tests were left out on this machine:\n\n${renderTable(columns, cells)}\n`;
}

const reporter: Reporter = {
  onTestRunEnd: (modules) => {
    // Tests that a pattern leaves out cannot be told from the others.
    if (modules.some(({ project }) => project.vitest.config.testNamePattern)) return;
    // Standard output may be what another reporter writes for a program.
    process.stderr.write(leftOutTable(modules));
  },
};

/** Ends every run with a table of the tests left out, also where the command line names other reporters. */
export const reportsLeftOut: Plugin = {
  name: "left-out",
  configureVitest: ({ vitest, project }) => {
    // Each project loads the configuration and calls this.
    if (project === vitest.projects[0]) vitest.config.reporters.push(reporter);
  },
};
