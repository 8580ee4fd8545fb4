import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../lib/core/package_root.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";

const script = "scripts/gpu.mjs";

test("goes through every step on simt", () => {
  using directory = temporaryDirectory();
  const addon = process.env.MOE_KERNELS_BINARY ?? join(packageRoot(), "build", "Release", "moe_kernels.node");
  const args = ["--device", "simt", "--quick", "--addon", addon, "--out", directory.path];
  const { status, stdout } = runScript(script, args);
  expect(stdout).toMatch(/^5 steps passed, 0 failed; see .*gpu\.md$/m);
  expect(status).toBe(0);
  const { machine, steps } = JSON.parse(readFileSync(join(directory.path, "gpu.json"), "utf8"));
  expect(machine.device).toBe("simt");
  const [verify, f32, bf16, benchmarks, hopper] = steps as { name: string; output: string }[];
  expect(verify?.output).toMatch(/simt: \d+ cases in .*✔ passed/);
  for (const golden of [f32, bf16]) {
    for (const name of ["norm", "nonorm"]) {
      expect(golden?.output).toMatch(new RegExp(`^pass qwen3_moe_${name}/qwen3_moe_${name}_t1\\.safetensors$`, "m"));
    }
  }
  for (const name of ["layer", "gating", "groupedGemm down", "combine"]) {
    for (const step of [benchmarks, hopper]) expect(step?.output).toMatch(new RegExp(`^${name} +8 +\\d`, "m"));
  }
  expect(readFileSync(join(directory.path, "gpu.md"), "utf8")).toMatch(/^\| benchmarks \| pass \|/m);
});

test("a step that fails is reported with its output and fails the run", () => {
  using directory = temporaryDirectory();
  const args = ["--device", "simt", "--quick", "--addon", "no-such.node", "--out", directory.path];
  const { status, stdout } = runScript(script, args);
  expect(status).toBe(1);
  expect(stdout).toMatch(/^0 steps passed, 5 failed/m);
  expect(readFileSync(join(directory.path, "gpu.md"), "utf8")).toMatch(/NOT_BUILT: .*no-such\.node/);
});

test.each([
  [["--device", "tpu"], /^--device: expected cuda or simt, got tpu\n/],
  [["--minutes", "0"], /^--minutes: expected a number > 0, got 0\n/],
])("%j is a wrong command line", (args, message) => {
  expect(runScript(script, args)).toMatchObject({ status: 2, stdout: "", stderr: expect.stringMatching(message) });
});
