import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { packageRoot } from "../../lib/core/addon/package_root.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";

const cmake = (process.env.PATH ?? "")
  .split(delimiter)
  .map((folder) => join(folder, "cmake"))
  .find(existsSync) as string;

/** A folder with the programs of a machine. None of this machine's is seen. */
class Machine {
  readonly path: string;

  constructor({ path }: { readonly path: string }) {
    this.path = path;
  }

  /** Writes a shell script and returns its path. */
  program(name: string, script: string): string {
    const path = join(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  }

  /** An nvcc of this version, which fails with the arguments that it is called with. */
  nvcc(name: string, release = "13.0"): string {
    const version = `echo "Cuda compilation tools, release ${release}, V${release}.1"`;
    return this.program(name, `[ "$1" = --version ] && ${version} && exit\necho "fatal: called with $*" >&2; exit 1`);
  }

  /** Runs the build's search with variables of CMake. */
  find({ env = {}, set = {} }: { env?: NodeJS.ProcessEnv; set?: Record<string, string> } = {}) {
    const variables = {
      MOE_CUDA: "AUTO",
      CMAKE_CXX_COMPILER_ID: "GNU",
      CMAKE_CXX_COMPILER: "/chosen/g++",
      CMAKE_GENERATOR: "Unix Makefiles",
      ...set,
    };
    const file = join(packageRoot(), "native", "gpu", "target", "cuda", "find_nvcc.cmake");
    const lines = Object.entries(variables).map(([name, value]) => `set(${name} "${value}")`);
    const script = ["cmake_minimum_required(VERSION 3.22)", ...lines, `include("${file}")`].join("\n");
    writeFileSync(join(this.path, "find.cmake"), script);
    const { status, stderr } = spawnSync(cmake, ["-P", "find.cmake"], {
      cwd: this.path,
      encoding: "utf8",
      // Keeps this machine's /usr/local/cuda out.
      env: { PATH: join(this.path, "bin"), CUDA_HOME: join(this.path, "none"), ...env },
    });
    return { status, output: stderr.replaceAll(/\s+/g, " ") };
  }
}

/** What findTools() of scripts/build_native.mjs finds with the same environment. */
function nvccOfScripts(machine: Machine, env: NodeJS.ProcessEnv): string {
  const script = 'import { findTools } from "./scripts/build_native.mjs"; console.log(findTools().nvcc)';
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
    cwd: packageRoot(),
    encoding: "utf8",
    env: { PATH: join(machine.path, "bin"), ...env },
  });
  return stdout.trim();
}

describe("without nvcc", () => {
  test("the build says nothing where nothing hints at CUDA", () => {
    using directory = temporaryDirectory();
    expect(new Machine(directory).find()).toEqual({ status: 0, output: "" });
  });

  test("the build warns where there is a driver or a folder of the toolkit", () => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    const warning = expect.stringMatching(
      /^CMake Warning .*the cuda device is left out, because nvcc was not found on the PATH or in .*install the CUDA toolkit/,
    );
    mkdirSync(join(machine.path, "toolkit"));
    expect(machine.find({ env: { CUDA_HOME: join(machine.path, "toolkit") } })).toEqual({ status: 0, output: warning });
    machine.program("bin/nvidia-smi", "exit 0");
    expect(machine.find()).toEqual({ status: 0, output: warning });
  });

  test("a CUDACXX that does not exist leaves out cuda, though there is an nvcc", () => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    machine.nvcc("bin/nvcc");
    const env = { CUDACXX: "/nonexistent", CUDA_PATH: "/nonexistent", CUDA_HOME: "/nonexistent" };
    expect(machine.find({ env })).toMatchObject({
      status: 0,
      output: expect.stringContaining("nvcc was not found, because CUDACXX is /nonexistent, which does not exist"),
    });
    expect(nvccOfScripts(machine, env)).toBe("undefined");
    machine.nvcc("elsewhere/bin/other-nvcc");
    const toolkit = { CUDACXX: "other-nvcc", CUDA_HOME: join(machine.path, "elsewhere") };
    expect(machine.find({ env: toolkit }).output).toContain("CUDACXX is other-nvcc, which does not exist");
    expect(nvccOfScripts(machine, toolkit)).toBe("undefined");
  });

  test("MOE_CUDA=ON is an error", () => {
    using directory = temporaryDirectory();
    const { status, output } = new Machine(directory).find({ set: { MOE_CUDA: "ON" } });
    expect(status).toBe(1);
    expect(output).toContain("moe-kernels: MOE_CUDA=ON asks for the cuda device, but nvcc was not found on the PATH");
  });
});

describe("an nvcc is looked for", () => {
  test.each([
    ["on the PATH", "bin/nvcc", {}],
    ["in CUDA_HOME", "home/bin/nvcc", { CUDA_HOME: "home", CUDA_PATH: "none" }],
    ["in CUDA_PATH", "path/bin/nvcc", { CUDA_PATH: "path" }],
    ["in CUDACXX", "own/nvcc-11", { CUDACXX: "own/nvcc-11" }],
  ])("%s", (_, name, folders) => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    const path = machine.nvcc(name, "11.8");
    const env = Object.fromEntries(Object.entries(folders).map(([key, value]) => [key, join(machine.path, value)]));
    expect(machine.find({ env }).output).toContain(`${path} is nvcc 11.8, and 12.4 or later is needed`);
    expect(nvccOfScripts(machine, env)).toBe(path);
  });

  test("though an earlier run has kept that there was none", () => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    machine.nvcc("bin/nvcc", "11.8");
    expect(machine.find({ set: { CMAKE_CUDA_COMPILER: "NOTFOUND" } }).output).toContain("is nvcc 11.8");
  });
});

describe("an nvcc that cannot be used", () => {
  test("CMake 3.25.1 does not know how it compiles C++20", () => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    machine.nvcc("bin/nvcc");
    const wanted = "CMake 3.25.1 does not know nvcc's flag for C++20, which 3.25.2 or later knows";
    const left = machine.find({ set: { CMAKE_VERSION: "3.25.1" } });
    expect(left.status).toBe(0);
    expect(left.output).toContain(`CMake Warning`);
    expect(left.output).toContain(`the cuda device is left out, because ${wanted}`);
    expect(left.output).toContain("install a later CMake");
    const asked = machine.find({ set: { CMAKE_VERSION: "3.25.1", MOE_CUDA: "ON" } });
    expect(asked.status).toBe(1);
    expect(asked.output).toContain(wanted);
    expect(machine.find({ set: { CMAKE_VERSION: "3.25.2" } }).output).not.toContain("C++20, which");
  });

  test("it is not nvcc", () => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    const path = machine.program("bin/nvcc", "echo license expired");
    const { output } = machine.find();
    expect(output).toContain(`${path} --version does not say which nvcc it is`);
    expect(output).toContain("license expired");
  });

  test("it fails: the warning has its output, and says what helps", () => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    const path = machine.nvcc("bin/nvcc");
    const { status, output } = machine.find();
    expect(status).toBe(0);
    const problem = `${path} 13.0 was found, but does not compile with the host compiler /chosen/g++ (fatal: called with`;
    expect(output).toContain(problem);
    expect(output).toContain("set CUDAHOSTCXX to a compiler that this nvcc supports");
    expect(machine.find({ set: { MOE_CUDA: "ON" } })).toMatchObject({
      status: 1,
      output: expect.stringContaining(problem),
    });
  });

  test("it does not know an architecture", () => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    machine.nvcc("bin/nvcc");
    const { output } = machine.find({ set: { MOE_CUDA_ARCHITECTURES: "120-real;80-virtual;80-real" } });
    const flags = "-gencode=arch=compute_120,code=sm_120 -gencode=arch=compute_80,code=sm_80 -o";
    expect(output).toContain(flags);
    machine.program(
      "bin/nvcc",
      `[ "$1" = --version ] && echo release 12.4 && exit\necho "nvcc fatal: Unsupported gpu architecture 'compute_120'"; exit 1`,
    );
    expect(machine.find().output).toContain("set MOE_CUDA_ARCHITECTURES to what this nvcc supports");
  });
});

describe("nvcc's host compiler", () => {
  test.each([
    ["the C++ compiler", {}, {}, "-ccbin=/chosen/g++"],
    ["CUDAHOSTCXX", { CUDAHOSTCXX: "/older/g++" }, {}, "-ccbin=/older/g++"],
    [
      "CMAKE_CUDA_HOST_COMPILER",
      { CUDAHOSTCXX: "/older/g++" },
      { CMAKE_CUDA_HOST_COMPILER: "/given/g++" },
      "-ccbin=/given/g++",
    ],
    ["nvcc's own choice", { NVCC_CCBIN: "/older/g++" }, {}, undefined],
    ["nvcc's own choice beside a compiler with arguments", {}, { CMAKE_CXX_COMPILER_ARG1: " g++" }, undefined],
    ["nvcc's own choice for other compilers", {}, { CMAKE_CXX_COMPILER_ID: "AppleClang" }, undefined],
  ])("is %s", (_, env, set, wanted) => {
    using directory = temporaryDirectory();
    const machine = new Machine(directory);
    machine.nvcc("bin/nvcc");
    const { output } = machine.find({ env, set });
    expect(output.match(/-ccbin=\S+/)?.[0]).toBe(wanted);
  });
});
