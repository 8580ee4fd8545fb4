import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { needs } from "../support/requirements.js";
import { runScript } from "../support/run_script.js";

/** The value of an expression over the exports of scripts/symbol_versions.mjs. */
function evaluate(expression: string): unknown {
  const script = `import * as scripts from "./scripts/symbol_versions.mjs"; console.log(JSON.stringify(${expression}))`;
  const args = ["--input-type=module", "--eval", script];
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: packageRoot(), encoding: "utf8" });
  expect(stderr).toBe("");
  return JSON.parse(stdout);
}

test("the versions that a binary needs are those of undefined symbols, compared as numbers", () => {
  const symbols = [
    "0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.2.5) memcpy",
    "0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.34)  pthread_create",
    "0000000000000000      DF *UND*\t0000000000000000  GLIBC_2.4    __stack_chk_fail",
    "0000000000000000  w   DF *UND*\t0000000000000000 (GLIBCXX_3.4.9) _ZSt",
    "0000000000000000      D  *UND*\t0000000000000000  Base        napi_create_object",
    "0000000000001000 g    DF .text\t0000000000000010 (GLIBC_2.99)  defined",
  ];
  expect(evaluate(`scripts.newestVersions(${JSON.stringify(symbols.join("\n"))})`)).toEqual({
    GLIBC: "2.34",
    GLIBCXX: "3.4.9",
  });
  expect(evaluate('[scripts.newerThan("2.34", "2.4"), scripts.newerThan("2.34", "2.34")]')).toEqual([true, false]);
});

test("an addon that needs more than it promises is not packed", needs("a platform with packages"), () => {
  using directory = temporaryDirectory();
  // A program with the system's C++ library.
  const addon = join("build", "test", "native", "moe_native_tests");
  const { status, stderr } = runScript("scripts/prebuild.mjs", ["--addon", addon, "--out", directory.path]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^prebuild: the addon needs (glibc|the C\+\+ library) [\d.]+, expected/);
});
