// Prints how many tests of a vitest JSON report passed and failed, as one line.
import { existsSync, readFileSync } from "node:fs";

const path = process.argv[2];
if (existsSync(path)) {
  const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(path, "utf8"));
  // A test file that fails to load has no tests, so it counts as one failure.
  const broken = testResults.filter(
    ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
  );
  console.log(`${numPassedTests} passed, ${numFailedTests + broken.length} failed`);
} else {
  console.error("the tests did not run; see above");
  console.log("0 passed, 0 failed");
  process.exitCode = 1;
}
