import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../checkpoint/support/temporary_directory.js";
import { runScript } from "../run_script.js";

/** Runs the fixtures on a machine whose only program is python3. */
function run(...args: string[]) {
  using programs = temporaryDirectory();
  writeFileSync(join(programs.path, "python3"), "#!/bin/sh\n", { mode: 0o755 });
  const script = "node_modules/vitest/vitest.mjs";
  const options = ["--config", "test/support/left_out/vitest.config.ts", "--reporter=json"];
  const { stdout, stderr } = runScript(script, ["run", ...options, ...args], { PATH: programs.path });
  return { report: JSON.parse(stdout), stderr };
}

test("a table names what tests lacked, how many they are, and those that do not tell", () => {
  const { report, stderr } = run();
  expect(report).toMatchObject({ numTotalTests: 9, numPassedTests: 2 });
  expect(stderr.split("\n").map((line) => line.trim())).toEqual([
    "",
    "6 of 9 tests were left out on this machine:",
    "",
    "tests  what they need               how to get it",
    expect.stringMatching(/^─+$/),
    "4  a peer                       npm run peers",
    "1  chromium                     apt-get install chromium",
    "1  unknown, in some.fixture.ts  name it there with needs()",
    "",
    "",
  ]);
});

test("what a failure or a pattern kept from running is not in it", () => {
  expect(run("failing").stderr).toBe("");
  expect(run("--testNamePattern", "runs").stderr).toBe("");
});
