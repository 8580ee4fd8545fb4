import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";

const linux = { CMAKE_SYSTEM_NAME: "Linux", CMAKE_SYSTEM_PROCESSOR: "x86_64" };
const gcc = { CMAKE_CXX_COMPILER_ID: "GNU", CMAKE_CXX_COMPILER_VERSION: "12.2.0" };

/** The build's message about a platform; undefined if it accepts the platform. */
function refusal(platform: Record<string, string>): string | undefined {
  const defines = Object.entries(platform).map(([name, value]) => `-D${name}=${value}`);
  const file = join(packageRoot(), "native", "platform.cmake");
  const { status, stderr } = spawnSync("cmake", [...defines, "-P", file], { encoding: "utf8" });
  return status === 0 ? undefined : stderr.replaceAll(/\s+/g, " ");
}

/** What `describeMissingTools` says for a platform. */
function missingTools(platform: string, env: NodeJS.ProcessEnv = {}): string {
  const call = `describeMissingTools(${JSON.stringify(platform)})`;
  const script = `import { describeMissingTools } from "./scripts/build_native.mjs"; console.log(${call})`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
    cwd: packageRoot(),
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  return stdout;
}

describe("the build", () => {
  test("takes GCC and Clang on Linux x64 and arm64", () => {
    expect(refusal({ ...linux, ...gcc })).toBeUndefined();
    expect(refusal({ ...linux, ...gcc, CMAKE_SYSTEM_PROCESSOR: "aarch64" })).toBeUndefined();
    expect(refusal({ ...linux, CMAKE_CXX_COMPILER_ID: "Clang", CMAKE_CXX_COMPILER_VERSION: "14.0.6" })).toBeUndefined();
  });

  test("refuses Visual Studio, even if untested platforms are allowed", () => {
    const platform = {
      CMAKE_SYSTEM_NAME: "Windows",
      CMAKE_SYSTEM_PROCESSOR: "AMD64",
      CMAKE_CXX_COMPILER_ID: "MSVC",
      CMAKE_CXX_COMPILER_VERSION: "19.44",
      MOE_UNTESTED_PLATFORM: "ON",
    };
    expect(refusal(platform)).toContain("expected GCC or Clang, got MSVC 19.44 on Windows AMD64");
  });

  test("refuses compilers that are too old", () => {
    expect(refusal({ ...linux, ...gcc, CMAKE_CXX_COMPILER_VERSION: "10.2.1" })).toContain("expected GNU 11 or later");
    const clang = { CMAKE_CXX_COMPILER_ID: "Clang", CMAKE_CXX_COMPILER_VERSION: "15.0.7" };
    expect(refusal({ ...linux, ...clang, CMAKE_SYSTEM_PROCESSOR: "aarch64" })).toContain("expected Clang 16 or later");
  });

  test("refuses untested platforms unless they are allowed", () => {
    const platform = { ...linux, ...gcc, CMAKE_SYSTEM_PROCESSOR: "riscv64" };
    expect(refusal(platform)).toContain("expected Linux x64 or arm64, got GNU 12.2.0 on Linux riscv64");
    expect(refusal(platform)).toContain("MOE_KERNELS_CMAKE_OPTIONS=-DMOE_UNTESTED_PLATFORM=ON");
    expect(refusal({ ...platform, MOE_UNTESTED_PLATFORM: "ON" })).toBeUndefined();
  });

  test("does not start on Windows, and says where it would work", () => {
    expect(missingTools("win32")).toMatch(/does not build on Windows.*\n.*Subsystem for Linux/);
  });

  test("takes a compiler with arguments, and says which is missing", () => {
    expect(missingTools("linux", { CXX: `${process.execPath} g++ -m64` })).not.toContain("C++ compiler (");
    expect(missingTools("linux", { CXX: "no-such-c++ -m64" })).toContain("C++ compiler (no-such-c++ -m64 on the PATH)");
    expect(missingTools("linux", { CXX: "", PATH: "" })).toContain("C++ compiler (c++, g++ or clang++ on the PATH)");
  });
});
