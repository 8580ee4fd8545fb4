import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { needs } from "../support/requirements.js";
import { runScript } from "../support/run_script.js";

test.each([
  ["experts/permute", "sm_80"],
  ["gemm/gather_inputs", "sm_80"],
  ["gemm/wgmma.cu", "sm_90a"],
  ["gemm/wgmma_quantized_fp8", "sm_90a"],
])("prints how much of a multiprocessor the kernels of %s use on %s", needs("nvcc"), (source, wanted) => {
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

/** Runs the script with an nvcc that compiles nothing and prints a log. */
function runWithLog(log: string) {
  const folder = mkdtempSync(join(tmpdir(), "moe-nvcc-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "log"), log);
  writeFileSync(join(folder, "nvcc"), `#!/bin/sh\ncat '${join(folder, "log")}' >&2\n`);
  chmodSync(join(folder, "nvcc"), 0o755);
  return runScript("scripts/kernels.mjs", ["--source", "gemm/wgmma.cu", "--json", "sm_90a"], {
    PATH: `${folder}${delimiter}${process.env.PATH}`,
  });
}

test.each([
  "warpgroup.arrive is injected in around line 210 by compiler to allow use of registers in GMMA in function",
  "warpgroup.wait is injected in around line 77 by compiler to allow use of registers defined by GMMA in function",
  "Potential Performance Loss: wgmma.mma_async instructions are serialized due to ill formed pipeline stage in the function",
  "Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient register resources for the function",
])("a kernel is refused of which ptxas says: %s", (message) => {
  const { status, stdout, stderr } = runWithLog(`ptxas info    : (C7519) ${message} '_Z12wgmma_kernelILi2EEvi'\n`);
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toContain("kernels: wgmma_kernel<2>: expected products of wgmma in the background");
  expect(stderr).toContain(message.replace(/^.*: | (in|for)( the)? function$/g, ""));
});

test("what else ptxas says is no error", () => {
  const { status, stdout } = runWithLog("ptxas info    : 0 bytes gmem\n");
  expect({ status, stdout }).toEqual({ status: 0, stdout: "[]\n" });
});
