// The sanitizer runs take minutes; these tests only check that everything that they name exists.
import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { runScript } from "../support/run_script.js";

test.each(["memory", "race"])("%s runs kernels that exist, and the case table", (name) => {
  const steps = runScript(`scripts/${name}.mjs`, ["--list"]).stdout.trim().split("\n");
  const source = readFileSync("test/native/simt/broken_kernels.cc", "utf8");
  const kernels = steps.flatMap((step) => step.match(/^(\w+) is reported: |^(right_\w+)$/)?.slice(1) ?? []);
  const named = kernels.filter((kernel) => kernel !== undefined);
  expect(named.length).toBeGreaterThan(1);
  for (const kernel of named) expect(source).toContain(`"${kernel}"`);
  expect(steps.at(-1)).toBe(
    "MOE_SIMT_SEED=2 MOE_SIMT_ASYNC=mixed MOE_GPU_CAPABILITY=90 verify --device simt --filter f16 x f16",
  );
});

test("sanitize runs tests that exist", () => {
  const folders = runScript("scripts/sanitize.mjs", ["--list"]).stdout.trim().split("\n");
  expect(folders).toContain("test/operators");
  for (const folder of folders) expect(existsSync(folder) || existsSync(`${folder}.test.ts`)).toBe(true);
});
