import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const script = fileURLToPath(new URL("../../scripts/count_tests.mjs", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "moe-count-"));
afterAll(() => rmSync(folder, { recursive: true }));

function count(report?: object) {
  const path = join(folder, report ? "report.json" : "missing.json");
  if (report) writeFileSync(path, JSON.stringify(report));
  const { status, stdout } = spawnSync(process.execPath, [script, path], { encoding: "utf8" });
  return { status, stdout };
}

const passedFile = { status: "passed", assertionResults: [{ status: "passed" }] };
const failedFile = { status: "failed", assertionResults: [{ status: "failed" }] };

test("counts tests", () => {
  const report = { numPassedTests: 12, numFailedTests: 1, testResults: [passedFile, failedFile] };
  expect(count(report)).toEqual({ status: 0, stdout: "12 passed, 1 failed\n" });
});

test("counts a file that cannot be loaded as one failure", () => {
  const report = {
    numPassedTests: 1,
    numFailedTests: 0,
    testResults: [passedFile, { ...failedFile, assertionResults: [] }],
  };
  expect(count(report)).toEqual({ status: 0, stdout: "1 passed, 1 failed\n" });
});

test("fails if the tests did not run", () => {
  expect(count()).toEqual({ status: 1, stdout: "0 passed, 0 failed\n" });
});
