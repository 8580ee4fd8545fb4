import { escaped } from "../../core/text/markup.js";
import type { SubjectReport, SubjectResult } from "../subject/run_cases.js";
import { problemsOf } from "./problems.js";

/** JUnit XML as test runners and CI servers read it: a suite for each operator. */
export function junitReport({ subject, seconds, results }: SubjectReport): string {
  const operators = [...new Set(results.map(({ operator }) => operator))];
  const suites = operators.map((operator) => {
    const cases = results.filter((result) => result.operator === operator);
    return `  <testsuite ${counts(operator, cases, sum(cases))}>\n${cases.map(testCase).join("")}  </testsuite>\n`;
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites ${counts(subject, results, seconds)}>\n${suites.join("")}</testsuites>\n`;
}

function counts(name: string, results: readonly SubjectResult[], seconds: number): string {
  const failures = results.filter(({ passed }) => !passed).length;
  return `name="${escaped(name)}" tests="${results.length}" failures="${failures}" time="${seconds.toFixed(3)}"`;
}

function sum(results: readonly SubjectResult[]): number {
  return results.reduce((total, { seconds }) => total + seconds, 0);
}

function testCase(result: SubjectResult): string {
  const { operator, name, passed, seconds } = result;
  const start = `    <testcase classname="${escaped(operator)}" name="${escaped(name)}" time="${seconds.toFixed(3)}"`;
  if (passed) return `${start}/>\n`;
  return `${start}>\n      <failure message="${escaped(problemsOf(result).join("; "))}"/>\n    </testcase>\n`;
}
