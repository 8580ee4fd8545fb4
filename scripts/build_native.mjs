// Builds the native addon from source. Part of the published package too, where the install script uses it.
import { spawnSync } from "node:child_process";
import { existsSync, realpathSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's folder. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** The path of an executable, given its name or path; undefined if there is none. */
export function findExecutable(name) {
  const folders = name.includes("/") || name.includes("\\") ? [""] : (process.env.PATH ?? "").split(delimiter);
  return folders
    .map((folder) => join(folder, name))
    .find((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
}

/** As native/gpu/target/cuda/find_nvcc.cmake. An nvcc that CUDACXX names is not looked for elsewhere. */
function findNvcc() {
  const { CUDACXX, CUDA_HOME, CUDA_PATH } = process.env;
  if (CUDACXX) return findExecutable(CUDACXX);
  const named = [CUDA_HOME, CUDA_PATH].filter(Boolean);
  const toolkits = named.length > 0 ? named : ["/usr/local/cuda"];
  return ["nvcc", ...toolkits.map((folder) => join(folder, "bin", "nvcc"))].map(findExecutable).find(Boolean);
}

export function findTools() {
  const { CXX } = process.env;
  // CMake takes arguments after the compiler, and a launcher before it: "ccache g++".
  const compilers = CXX ? [CXX, CXX.trim().split(" ")[0]] : ["c++", "g++", "clang++"];
  return {
    cmake: findExecutable("cmake"),
    compiler: compilers.map(findExecutable).find(Boolean),
    generator: findExecutable("ninja") ?? findExecutable("make"),
    nvcc: findNvcc(),
  };
}

/** What CMake and nvcc read of the environment. */
const variables = [
  ...["CXX", "CXXFLAGS", "CUDACXX", "CUDAFLAGS", "CUDAHOSTCXX", "CUDA_HOME", "CUDA_PATH"],
  ...["NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "MOE_KERNELS_CMAKE_OPTIONS"],
];

/** The tools and settings of a build on this machine. Changes if a tool appears, disappears or is updated. */
export function describeToolchain() {
  const { CUDAHOSTCXX } = process.env;
  const tools = { ...findTools(), cudaHostCompiler: CUDAHOSTCXX && findExecutable(CUDAHOSTCXX) };
  const files = Object.entries(tools).map(([tool, path]) => {
    if (!path || !existsSync(path)) return `${tool}: ${path ?? "none"}`;
    const real = realpathSync(path);
    const { size, mtimeMs } = statSync(real);
    return `${tool}: ${path} ${real} ${size} ${mtimeMs}`;
  });
  return [...files, ...variables.map((name) => `${name}=${process.env[name] ?? ""}`)];
}

/** Why the addon cannot be built on this machine, and what to install; undefined if it can. */
export function describeMissingTools(platform = process.platform) {
  if (platform === "win32") {
    return [
      "the native addon does not build on Windows: it needs GCC >= 11 or Clang >= 14 and is tested on Linux x64 and arm64",
      "to use it there: install moe-kernels in the Windows Subsystem for Linux",
    ].join("\n  ");
  }
  const { cmake, compiler, generator } = findTools();
  const missing = [
    ...(cmake ? [] : ["CMake (cmake on the PATH)"]),
    ...(compiler ? [] : [`a C++ compiler (${process.env.CXX || "c++, g++ or clang++"} on the PATH)`]),
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
 * The commands that configure and build the addon into `<out>/<config>/moe_kernels.node`.
 * @param {object} [options]
 * @param {string} [options.out] build folder; a relative one is within the package.
 * @param {string} [options.config] CMake build type.
 * @param {Record<string, string>} [options.defines] CMake cache entries. MOE_KERNELS_CMAKE_OPTIONS adds to them.
 * @param {string[]} [options.targets] what to build; everything without them.
 * @returns {{ name: string, command: string, args: string[] }[]}
 */
export function buildCommands({ out = "build", config = "Release", defines = {}, targets = [] } = {}) {
  const folder = resolve(root, out);
  const entries = Object.entries({ CMAKE_LIBRARY_OUTPUT_DIRECTORY: join(folder, config), ...defines });
  const jobs = process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? availableParallelism();
  const { CXXFLAGS = "" } = process.env;
  const given = (process.env.MOE_KERNELS_CMAKE_OPTIONS ?? "").split(/\s+/).filter(Boolean);
  const common = ["--directory", root, "--out", folder, "--config", config, "--log-level", "warn"];
  const configure = entries.map(([name, value]) => `--CD${name}=${value}`);
  const build = (target) => ({
    name: "cmake build",
    ...cmakeJs("build", ...common, "--parallel", `${jobs}`, ...(target === undefined ? [] : ["--target", target])),
  });
  return [
    {
      name: "cmake configure",
      // Last, since cmake-js sets flags of its own where the environment's would be.
      ...cmakeJs(
        "configure",
        ...common,
        ...configure,
        "--",
        "--log-level=NOTICE",
        `-DCMAKE_CXX_FLAGS=${CXXFLAGS}`,
        ...given,
      ),
    },
    ...(targets.length > 0 ? targets : [undefined]).map(build),
  ];
}

/** cmake-js of a clone. The published package does not depend on it: a build from source has npm fetch it. */
function cmakeJs(...args) {
  try {
    const program = join(dirname(createRequire(import.meta.url).resolve("cmake-js/package.json")), "bin", "cmake-js");
    return { command: process.execPath, args: [program, ...args] };
  } catch {
    const npm = process.env.npm_execpath;
    const fetched = ["exec", "--yes", "--package", "cmake-js@8", "--", "cmake-js", ...args];
    return npm ? { command: process.execPath, args: [npm, ...fetched] } : { command: "npm", args: fetched };
  }
}

/**
 * Builds the addon, with the output of the tools in this process's own.
 * @param {Parameters<typeof buildCommands>[0] & { fresh?: boolean }} [options] fresh: forget what CMake has cached about
 *   the tools.
 * @returns {string | undefined} why it failed; undefined if it succeeded.
 */
export function buildNative({ fresh = false, ...options } = {}) {
  const missing = describeMissingTools();
  if (missing) return missing;
  if (fresh) {
    const folder = resolve(root, options.out ?? "build");
    rmSync(join(folder, "CMakeCache.txt"), { force: true });
    rmSync(join(folder, "CMakeFiles"), { force: true, recursive: true });
  }
  // How many files are done, and after how many seconds.
  const env = { NINJA_STATUS: "[%f/%t %es] ", ...process.env };
  for (const { name, command, args } of buildCommands(options)) {
    const { status, signal, error } = spawnSync(command, args, {
      cwd: root,
      env,
      stdio: ["ignore", "inherit", "inherit"],
    });
    if (error) return `${name}: ${error.message}`;
    if (status !== 0) return `${name} failed (${signal ?? `exit code ${status}`}); see its output`;
  }
  return undefined;
}

/** Removes local symbols. An addon works with them too, so without `strip` it is merely larger. Returns what went wrong. */
export function strip(path) {
  const { status, error } = spawnSync("strip", ["-x", path], { stdio: ["ignore", "inherit", "inherit"] });
  return error?.message ?? (status === 0 ? undefined : `strip: exit code ${status}`);
}
