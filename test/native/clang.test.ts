import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { needs } from "../support/requirements.js";

/** The files that include the kernels' templates, which GCC and Clang instantiate by different rules. */
const files = ["native/cpu/isa", "test/native/extension/cpu"].flatMap((folder) =>
  readdirSync(join(packageRoot(), folder))
    .filter((name) => /^(?!neon).*\.cc$/.test(name))
    .map((name) => `${folder}/${name}`),
);

/** Clang's errors in a file; each version has warnings of its own. */
function errorsIn(file: string): string {
  const includes = ["native", join("test", "native")].map((folder) => `-I${join(packageRoot(), folder)}`);
  const checks = ["-std=c++20", "-w", "-fsyntax-only", "-DMOE_EXTENSION", "-DMOE_X86"];
  const { stderr } = spawnSync("clang++", [...checks, ...includes, join(packageRoot(), file)], {
    encoding: "utf8",
  });
  return stderr;
}

describe("Clang, as well as the compiler of this build, takes", needs("x64", "clang"), () => {
  test.each(files)("%s", (file) => {
    expect(errorsIn(file)).toBe("");
  });
});
