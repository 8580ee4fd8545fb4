import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { runCli } from "./support/run_cli.js";

vi.mock("../../lib/core/native.js", async (importOriginal) => ({
  ...(await importOriginal<typeof import("../../lib/core/native.js")>()),
  packageRoot: mkdtempSync(join(tmpdir(), "moe-kernels-")),
}));

test("the demo says what it needs where the golden file is not shipped", async () => {
  const { exitCode, stdout, stderr } = await runCli(["demo"]);
  expect(exitCode).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toMatch(/needs .*mixtral_mid\.safetensors of the repository/);
  expect(stderr).toContain("moe-kernels run --shape OLMoE-1B-7B");
});
