// Builds the native addon from source. Part of the published package too, where the install script uses it.
import { spawnSync } from "node:child_process";
import { existsSync, realpathSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's folder. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** The path of an executable, given its name or path; undefined if there is none. */
function findExecutable(name) {
  const folders = name.includes("/") || name.includes("\\") ? [""] : (process.env.PATH ?? "").split(delimiter);
  return folders
    .map((folder) => join(folder, name))
    .find((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
}

function findTools() {
  const compilers = process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"];
  return {
    cmake: findExecutable("cmake"),
    compiler: compilers.map(findExecutable).find(Boolean),
    generator: findExecutable("ninja") ?? findExecutable("make"),
    nvcc: findExecutable(process.env.CUDACXX ?? "nvcc"),
  };
}

/** The tools that a build on this machine would use. Changes if one of them appears, disappears or is updated. */
export function describeToolchain() {
  return Object.entries(findTools()).map(([tool, path]) => {
    if (!path || !existsSync(path)) return `${tool}: ${path ?? "none"}`;
    const real = realpathSync(path);
    const { size, mtimeMs } = statSync(real);
    return `${tool}: ${path} ${real} ${size} ${mtimeMs}`;
  });
}

/** Why the addon cannot be built on this machine, and what to install; undefined if it can. */
export function describeMissingTools(platform = process.platform) {
  if (platform === "win32") {
    return [
      "the native addon does not build on Windows: it needs GCC >= 11 or Clang >= 14 and is tested on Linux x64",
      "to use it there: install moe-kernels in the Windows Subsystem for Linux",
    ].join("\n  ");
  }
  const { cmake, compiler, generator } = findTools();
  const missing = [
    ...(cmake ? [] : ["CMake (cmake on the PATH)"]),
    ...(compiler ? [] : [`a C++ compiler (${process.env.CXX ?? "c++, g++ or clang++"} on the PATH)`]),
    ...(generator ? [] : ["a build tool (ninja or make on the PATH)"]),
  ];
  if (missing.length === 0) return undefined;
  const remedy = {
    linux:
      "Debian, Ubuntu: apt install cmake g++ make; Fedora: dnf install cmake gcc-c++ make; Alpine: apk add cmake g++ make",
    darwin: "xcode-select --install and brew install cmake",
  }[platform];
  return [
    "the native addon needs CMake >= 3.22 and a C++20 compiler (GCC >= 11 or Clang >= 14)",
    `not found: ${missing.join(", ")}`,
    ...(remedy ? [`to install: ${remedy}`] : []),
  ].join("\n  ");
}

/**
 * Configures and builds the addon into `<out>/<config>/moe_kernels.node`.
 * @param {object} [options]
 * @param {string} [options.out] build folder, relative to the package.
 * @param {string} [options.config] CMake build type.
 * @param {Record<string, string>} [options.defines] CMake cache entries.
 * @param {boolean} [options.fresh] forget what CMake has cached about the tools.
 * @param {"inherit" | number} [options.output] where the output goes: this process's own, or a file descriptor.
 * @returns {string | undefined} why it failed; undefined if it succeeded.
 */
export function buildNative({
  out = "build",
  config = "Release",
  defines = {},
  fresh = false,
  output = "inherit",
} = {}) {
  const missing = describeMissingTools();
  if (missing) return missing;
  const folder = join(root, out);
  if (fresh) {
    rmSync(join(folder, "CMakeCache.txt"), { force: true });
    rmSync(join(folder, "CMakeFiles"), { force: true, recursive: true });
  }
  const cmakeJs = join(dirname(createRequire(import.meta.url).resolve("cmake-js/package.json")), "bin", "cmake-js");
  const options = [`--out=${folder}`, `--config=${config}`, "--log-level=warn"];
  const commands = [
    ["configure", ...options, ...Object.entries(defines).map(([name, value]) => `--CD${name}=${value}`)],
    ["build", ...options, `--parallel=${process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? availableParallelism()}`],
  ];
  for (const command of commands) {
    const { status, signal, error } = spawnSync(process.execPath, [cmakeJs, ...command], {
      cwd: root,
      stdio: ["ignore", output, output],
    });
    if (error) return `cmake-js ${command[0]}: ${error.message}`;
    if (status !== 0) return `cmake-js ${command[0]} failed (${signal ?? `exit code ${status}`}); see its output`;
  }
  return undefined;
}
