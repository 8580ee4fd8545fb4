import { expect, test, vi } from "vitest";
import { runCli } from "./support/run_cli.js";

vi.mock("../../lib/testing/run.js", async () => {
  const { MoeError } = await import("../../lib/core/errors.js");
  return {
    runCase: async ({ name, operator }: { name: string; operator: string }) => {
      if (operator === "sort") throw new MoeError("CUDA_ERROR", "route_block: cudaErrorIllegalAddress");
      const difference = {
        error: Number.POSITIVE_INFINITY,
        wrong: 2,
        within: [
          [0, 1],
          [2, 2],
        ],
        worst: { index: [1, 2], value: Number.NaN, expected: 0.5 },
      };
      const check = { output: "y", dtype: "f32", shape: [2, 3], ...difference, tolerance: 1e-5, passed: false };
      return { name, operator, checks: [check], passed: false };
    },
  };
});

test("cases outside their tolerance are listed, and the exit code is 1", async () => {
  const { exitCode, stdout } = await runCli(["verify", "--device", "reference", "--filter", "combine T33"]);
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/✘ 3 failed/);
  expect(stdout).toMatch(
    /^✘ combine T33 .*: y: error Infinity, tolerance 1\.0e-5; 2 of 6 values wrong, in \[0-1, 2\]; \[1, 2\] is NaN instead of 0\.5$/m,
  );
});

test("an error that is not a JSON number is a string", async () => {
  const args = ["verify", "--device", "reference", "--filter", "combine T33", "--json"];
  const { exitCode, stdout } = await runCli(args);
  expect(exitCode).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({
    passed: false,
    devices: [{ results: [{ checks: [{ error: "Infinity" }] }, {}, {}] }],
  });
});

test("an error of the device names the case", async () => {
  const { exitCode, stderr } = await runCli(["verify", "--device", "reference", "--filter", "sort"]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/^moe-kernels: CUDA_ERROR: sort T.*: route_block: cudaErrorIllegalAddress$/m);
});
