import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { runScript } from "../support/run_script.js";

test("npm run bench:install times an installation and a first program", () => {
  const addon = process.env.MOE_KERNELS_BINARY || join(packageRoot(), "build", "Release", "moe_kernels.node");
  const { status, stdout, stderr } = runScript("build/bench/install/run.js", ["--rounds", "1", "--addon", addon]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  for (const kind of ["npm +empty", "npm +filled", "pnpm +empty", "pnpm +filled"]) {
    expect(stdout).toMatch(new RegExp(`^${kind} +[\\d.]+ +[\\d.]+ +[\\d.]+$`, "m"));
  }
});
