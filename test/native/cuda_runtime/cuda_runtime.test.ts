import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { packageRoot } from "../../../lib/core/addon/package_root.js";
import { nativeTests } from "../../support/native_tests.js";

nativeTests("test/native/cuda_runtime/moe_cuda_runtime_tests");

it("does not use CUDA any more once it ends with the process", () => {
  const program = join(packageRoot(), "build", "test/native/cuda_runtime/moe_cuda_exit");
  const { status, signal, stderr } = spawnSync(program, { encoding: "utf8" });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: "" });
});
