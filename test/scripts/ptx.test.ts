// The run itself takes minutes and needs nvcc.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { runScript } from "../support/run_script.js";

const script = "scripts/ptx.mjs";
const stepsOf = (...args: readonly string[]) =>
  runScript(script, ["--list", ...args])
    .stdout.trim()
    .split("\n");

test("runs the native tests of the device, verify on three GPUs, and tests that exist", () => {
  const steps = stepsOf();
  expect(steps).toContain("MOE_PTX_CAPABILITY=90 test/native/cuda_device/moe_cuda_device_tests");
  for (const settings of ["80 MOE_PTX_ASYNC=late MOE_PTX_TURNS=1", "90 MOE_PTX_ASYNC=early MOE_PTX_TURNS=2"]) {
    expect(steps).toContain(`MOE_PTX_CAPABILITY=${settings} verify --device cuda`);
  }
  const files = steps.flatMap((step) => step.split(" vitest run ")[1]?.split(" ") ?? []);
  expect(files).toContain("test/operators");
  for (const file of files) expect(existsSync(file) || existsSync(`${file}.test.ts`)).toBe(true);
  for (const gpu of [80, 89]) expect(steps).toContain(`MOE_PTX_CAPABILITY=${gpu} vitest run test/native/gpu`);
  expect(steps).toContain("MOE_PTX_CAPABILITY=90 MOE_PTX_TIMING=second_early vitest run test/layer/offload");
});

test("runs chosen tests on chosen GPUs", () => {
  expect(stepsOf("--capability", "80,86", "test/layer", "paths")).toEqual([
    "MOE_PTX_CAPABILITY=80 vitest run test/layer paths",
    "MOE_PTX_CAPABILITY=86 vitest run test/layer paths",
  ]);
  expect(stepsOf("--capability", "86").every((step) => step.startsWith("MOE_PTX_CAPABILITY=86 "))).toBe(true);
});

test("an unknown GPU is a wrong command line", () => {
  const { status, stdout, stderr } = runScript(script, ["--capability", "80,70"]);
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(/^--capability: expected some of 80, 86, 89, 90, got 70\nUsage: /);
});

test("says what is missing without nvcc", () => {
  const { status, stdout, stderr } = runScript(script, [], { CUDACXX: "/nonexistent" });
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toMatch(/^ptx: expected nvcc .*install the CUDA toolkit/s);
});

/** What a module's code prints, run in the scripts' folder. */
function evaluate(code: string) {
  const args = ["--input-type=module", "--eval", code];
  return spawnSync(process.execPath, args, { cwd: packageRoot(), encoding: "utf8" });
}

test("kernels that no process launched are named", () => {
  const file = [
    "of _Z12first_kernelIiLi2EEvi",
    "of _Z13second_kernelv",
    "_Z13second_kernelv",
    "of _Z13second_kernelv",
    "",
  ];
  const { stdout } = evaluate(
    `import { findUnlaunched } from "./scripts/ptx/launches.mjs";
     console.log(JSON.stringify([findUnlaunched(${JSON.stringify(file.join("\n"))}), findUnlaunched("")]));`,
  );
  expect(JSON.parse(stdout)).toEqual([
    { kernels: 2, never: ["first_kernel<int, 2>"] },
    { kernels: 0, never: [] },
  ]);
});

test("a step fails by its exit code, by a signal, or by a report", () => {
  const programs = {
    good: "console.log('fine')",
    live: "console.log('shown')",
    status: "process.exit(3)",
    signal: "process.kill(process.pid, 'SIGKILL')",
    machine: "process.stdout.write('no newline'); console.error('moe ptx machine: kernel: address 0')",
    sanitizer: "console.error('==1==ERROR: AddressSanitizer: use-after-poison')",
  };
  const { status, stdout } = evaluate(
    `import { clean, runSteps } from "./scripts/steps.mjs";
     const programs = ${JSON.stringify(programs)};
     await runSteps(Object.entries(programs).map(([name, code]) =>
       clean(name, process.execPath, ["--eval", code], undefined, { live: name === "live" })));`,
  );
  expect(status).toBe(1);
  expect(stdout.match(/^(pass|FAIL) \w+/gm)).toEqual([
    ...["pass good", "pass live", "FAIL status", "FAIL signal", "FAIL machine", "FAIL sanitizer"],
  ]);
  expect(stdout).toMatch(/^2\/6 live \.\.\.\nshown\npass live \(\d+ s\)$/m);
  expect(stdout).not.toContain("fine");
  expect(stdout).toContain("moe ptx machine: kernel: address 0");
  expect(stdout).toMatch(/^2 passed, 4 failed$/m);
});
