import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { npm, repository, run, succeed, Workspace, withoutBuildTools } from "./project.js";

const workspace = new Workspace();
afterAll(() => workspace.remove());

/** The packed package, and the list of its files. */
let tarball: string;
let unpacked: string;

beforeAll(() => {
  npm(["pack", "--pack-destination", workspace.path], repository);
  tarball = findTarball(workspace.path);
  succeed("tar", ["-xzf", tarball], workspace.path);
  unpacked = join(workspace.path, "package");
});

function findTarball(folder: string): string {
  return join(folder, readdirSync(folder).find((name) => name.endsWith(".tgz")) as string);
}

function node(project: string, code: string) {
  return run(process.execPath, ["--input-type=commonjs", "--eval", code], project);
}

const openCpu =
  'try { require("moe-kernels").openDevice("cpu") } catch (error) { console.log(error.code, error.message) }';

const packageJson = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));

describe("the tarball", () => {
  test("has every source of the native addon", () => {
    const sources = succeed("git", ["ls-files", "native", "CMakeLists.txt"], repository).trim().split("\n");
    expect(sources.length).toBeGreaterThan(10);
    expect(sources.filter((path) => !existsSync(join(unpacked, path)))).toEqual([]);
  });

  test("has nothing that a user does not need", () => {
    const top = [
      "ARCHITECTURE.md",
      "CHANGELOG.md",
      "CMakeLists.txt",
      "LICENSE",
      "README.md",
      "dist",
      "native",
      "package.json",
      "test",
    ];
    const files = readdirSync(unpacked).filter((name) => name !== "prebuilds");
    expect(files.sort()).toEqual([...top, "scripts"].sort());
    expect(readdirSync(join(unpacked, "scripts")).sort()).toEqual(["build_native.mjs", "install.mjs"]);
    const ofTests = readdirSync(join(unpacked, "test"), { recursive: true, withFileTypes: true });
    expect(ofTests.flatMap((entry) => (entry.isFile() ? [entry.name] : []))).toEqual(["mixtral_small.safetensors"]);
  });

  test("has every file that package.json names", () => {
    const targets = Object.values(packageJson.exports).flatMap((target) =>
      typeof target === "string" ? [target] : Object.values(target as Record<string, string>),
    );
    const named = [...targets, packageJson.types, ...Object.values(packageJson.bin)] as string[];
    expect(named.filter((path) => !existsSync(join(unpacked, path)))).toEqual([]);
    for (const target of Object.values(packageJson.exports)) {
      if (typeof target !== "string") expect(Object.keys(target as object)[0]).toBe("types");
    }
    expect(readFileSync(join(unpacked, packageJson.bin["moe-kernels"]), "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
  });
});

describe("installed without its install script", () => {
  let project: string;
  beforeAll(() => {
    project = workspace.project("without scripts");
    npm(["install", tarball, "--ignore-scripts"], project);
  });

  test.each([
    ["import", 'import("moe-kernels")'],
    ["require", 'Promise.resolve(require("moe-kernels"))'],
  ])("works by %s on the reference device", (_, load) => {
    const use = '.then((moe) => console.log(moe.openDevice("reference").tensor([1, 2]).dataSync().join()))';
    expect(node(project, load + use)).toMatchObject({ status: 0, stdout: "1,2\n", stderr: "" });
  });

  test.each([
    ["safetensors", "SafetensorsFile"],
    ["gguf", "GgufFile"],
  ])("reads %s by import and require, without the addon", (module, name) => {
    const code = `console.log(typeof require("moe-kernels/${module}").${name}.open)`;
    expect(node(project, code)).toMatchObject({ status: 0, stdout: "function\n" });
  });

  test("says how to get the addon when it is needed", () => {
    const { stdout } = node(project, openCpu);
    expect(stdout).toMatch(/^NOT_BUILT the native addon cannot be loaded: .* not found/);
    expect(stdout).toContain(join(project, "node_modules", "moe-kernels", "scripts", "install.mjs"));
    expect(stdout).toContain("MOE_KERNELS_BINARY");
    expect(stdout).toContain('openDevice("reference")');
  });

  test("has a command line that says which devices are missing", () => {
    const info = JSON.parse(succeed("npx", ["moe-kernels", "info", "--json"], project));
    expect(info.devices.filter(({ available }: { available: boolean }) => available)).toMatchObject([
      { name: "reference" },
    ]);
  });

  test("verifies nothing, and says so", () => {
    const { status, stdout } = run("npx", ["moe-kernels", "verify", "--filter", "combine"], project);
    expect(status).toBe(1);
    expect(stdout).toMatch(/^reference: \d+ cases in /);
    for (const name of ["cpu", "simt", "cuda"]) {
      expect(stdout).toMatch(new RegExp(`^. ${name} was left out: the native addon cannot be loaded`, "m"));
    }
    expect(stdout).toMatch(/^Not verified: /m);
  });

  test("has types for ES and CommonJS modules", () => {
    const code = `import { type MoeLayer, openDevice, type Tensor } from "moe-kernels";
import { SafetensorsFile } from "moe-kernels/safetensors";
export const tensor: Tensor<"bf16"> = openDevice("cpu").zeros([2, 3], "bf16");
export const file: Promise<SafetensorsFile> = SafetensorsFile.open("x");
export type Layer = MoeLayer;
`;
    writeFileSync(join(project, "module.mts"), code);
    writeFileSync(join(project, "common.cts"), code);
    const typeRoots = join(repository, "node_modules", "@types");
    const options = ["--module", "nodenext", "--target", "es2022", "--lib", "es2023,esnext.disposable", "--strict"];
    const tsc = join(repository, "node_modules", "typescript", "bin", "tsc");
    const args = [tsc, "--noEmit", ...options, "--typeRoots", typeRoots, "--types", "node", "module.mts", "common.cts"];
    const { status, stdout } = run(process.execPath, args, project);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
  });
});

describe("installed where the addon cannot be built", () => {
  test("installs, and says at load what is missing", () => {
    const project = workspace.project("without build tools");
    npm(["install", tarball], project, withoutBuildTools(workspace));
    const { stdout } = node(project, openCpu);
    expect(stdout).toMatch(/^NOT_BUILT /);
    expect(stdout).toContain("The build at install ended with:\n  the native addon needs CMake >= 3.22");
    expect(stdout).toContain("not found: CMake (cmake on the PATH)");
  });
});

describe("installed where the addon can be built", () => {
  test("builds it from source", () => {
    const project = workspace.project("from source");
    // Only the cpu device: the others would only make the test longer.
    npm(["install", tarball], project, { npm_cmake_MOE_SIMT: "OFF", npm_cmake_MOE_CUDA: "OFF" });
    expect(existsSync(join(project, "node_modules", "moe-kernels", "build", "install.log"))).toBe(false);
    const code = 'console.log(require("moe-kernels").openDevice("cpu").tensor([1, 2]).dataSync().join())';
    expect(node(project, code)).toMatchObject({ status: 0, stdout: "1,2\n", stderr: "" });
  });
});

describe("with a prebuilt binary", () => {
  let project: string;
  beforeAll(() => {
    const built = join("build", "Release", "moe_kernels.node");
    mkdirSync(dirname(join(unpacked, built)), { recursive: true });
    copyFileSync(join(repository, built), join(unpacked, built));
    cpSync(join(repository, "scripts", "prebuild.mjs"), join(unpacked, "scripts", "prebuild.mjs"));
    symlinkSync(join(repository, "node_modules"), join(unpacked, "node_modules"));
    succeed(process.execPath, ["scripts/prebuild.mjs"], unpacked);
    npm(["pack", "--ignore-scripts"], unpacked);
    project = workspace.project("with prebuilt");
    npm(["install", findTarball(unpacked)], project, { CXX: "/nonexistent" });
  });

  test("builds nothing", () => {
    expect(existsSync(join(project, "node_modules", "moe-kernels", "build"))).toBe(false);
  });

  test.each([
    ["import", 'import("moe-kernels")'],
    ["require", 'Promise.resolve(require("moe-kernels"))'],
  ])("computes by %s on the cpu device", (_, load) => {
    const use = `.then(({ openDevice, routerProjection }) => {
      const device = openDevice("cpu");
      console.log(routerProjection(device.tensor([[1, 2]]), device.tensor([[3, 4]])).dataSync().join());
    })`;
    expect(node(project, load + use)).toMatchObject({ status: 0, stdout: "11\n", stderr: "" });
  });

  test("runs the demo", () => {
    const { status, stdout, stderr } = run("npx", ["moe-kernels", "demo"], project);
    expect({ status, stderr }).toMatchObject({
      status: 0,
      stderr: expect.stringContaining("Loading and running on cpu"),
    });
    expect(stdout).toMatch(/^mixtral layer of mixtral_small\.safetensors$/m);
    for (const device of ["reference", "cpu"]) expect(stdout).toContain(`On ${device}, f32: `);
    expect(stdout).toMatch(/^OLMoE-1B-7B, random weights/m);
    expect(stdout).not.toContain("✘");
  });

  test("has a command line with the cpu device", () => {
    const info = JSON.parse(succeed("npx", ["moe-kernels", "info", "--json"], project));
    const available = info.devices.filter(({ available }: { available: boolean }) => available);
    expect(available.map(({ name }: { name: string }) => name)).toEqual(expect.arrayContaining(["reference", "cpu"]));
  });
});
