import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";

const hasClang = process.arch === "x64" && spawnSync("clang++", ["--version"]).status === 0;

/** The files that include the kernels' templates, which GCC and Clang instantiate by different rules. */
const files = readdirSync(join(packageRoot(), "native", "cpu", "isa")).filter((name) => /^(?!neon).*\.cc$/.test(name));

/** What Clang says of a file. */
function complaints(file: string): string {
  const includes = ["native", join("test", "native")].map((folder) => `-I${join(packageRoot(), folder)}`);
  const checks = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-DMOE_EXTENSION", "-DMOE_X86"];
  const { stderr } = spawnSync("clang++", [...checks, ...includes, join(packageRoot(), "native", "cpu", "isa", file)], {
    encoding: "utf8",
  });
  return stderr;
}

describe.runIf(hasClang)("Clang, as well as the compiler of this build, takes", () => {
  test.each(files)("%s", (file) => {
    expect(complaints(file)).toBe("");
  });
});
