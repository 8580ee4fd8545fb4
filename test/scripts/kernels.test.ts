import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { runScript } from "../support/run_script.js";

const hasNvcc = ["nvcc", "ptxas"].every((tool) => spawnSync(tool, ["--version"]).status === 0);

test.runIf(hasNvcc).each([
  ["experts/permute", "sm_80"],
  ["gemm/gather_inputs", "sm_80"],
  ["gemm/wgmma.cu", "sm_90a"],
  ["gemm/wgmma_quantized_fp8", "sm_90a"],
])("prints how much of a multiprocessor the kernels of %s use on %s", (source, wanted) => {
  const { status, stdout, stderr } = runScript("scripts/kernels.mjs", ["--source", source, "--json", wanted]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const rows = JSON.parse(stdout) as { kernel: string; architecture: string; registers: number; spills: number }[];
  expect(rows.length).toBeGreaterThan(0);
  for (const { kernel, architecture, registers, spills } of rows) {
    expect(kernel).toMatch(/_kernel/);
    expect({ architecture, spills }).toEqual({ architecture: wanted, spills: 0 });
    expect(registers).toBeGreaterThan(0);
  }
});

test("an unknown architecture is a wrong command line", () => {
  const { status, stdout, stderr } = runScript("scripts/kernels.mjs", ["sm_1"]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(/^expected sm_80 or .*, got sm_1\n/);
});
