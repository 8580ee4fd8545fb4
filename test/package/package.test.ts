import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import webpack from "webpack";
import { forwardOutput, forwardProgram, managers } from "../../bench/install/managers.js";
import { packAll } from "../../bench/install/packages.js";
import { addonFile, platformName, platformPackage, platforms } from "../../lib/core/addon/platforms.js";
import { Registry, repository, run, succeed, Workspace, withoutBuildTools } from "./project.js";

const workspace = new Workspace();
const packages = join(workspace.path, "packages");
const unpacked = join(workspace.path, "package");
const caches = join(workspace.path, "caches");
const [npm, pnpm] = managers as [(typeof managers)[0], (typeof managers)[0]];
let registry: Registry;
let noBuildTools: NodeJS.ProcessEnv;

beforeAll(async () => {
  packAll(packages, process.env.MOE_KERNELS_BINARY || join(repository, "build", "Release", addonFile));
  registry = await Registry.start(packages);
  succeed("tar", ["-xzf", join(packages, `moe-kernels-${packageJson.version}.tgz`)], workspace.path);
  noBuildTools = withoutBuildTools(workspace);
});
afterAll(() => {
  registry?.stop();
  workspace.remove();
});

/** A new project with moe-kernels from the registry. Returns what the installation printed, too. */
function install(name: string, { manager = npm, options = [] as string[], env = {} as NodeJS.ProcessEnv } = {}) {
  const project = workspace.project(name);
  const [command, ...args] = manager.install("moe-kernels", registry.url, caches);
  const { status, stdout, stderr, error } = run(command, [...args, ...options], project, {
    npm_config_userconfig: "",
    ...env,
  });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error ?? status}\n${stdout}\n${stderr}`);
  return { project, folder: join(project, "node_modules", "moe-kernels"), output: stdout + stderr };
}

function node(project: string, code: string) {
  return run(process.execPath, ["--input-type=commonjs", "--eval", code], project, { MOE_KERNELS_BINARY: "" });
}

/** Runs {@link forwardProgram} in a project. */
function forward(project: string, { flags = [] as string[], env = {} as NodeJS.ProcessEnv } = {}) {
  writeFileSync(join(project, "forward.mjs"), forwardProgram);
  return run(process.execPath, [...flags, "forward.mjs"], project, { MOE_KERNELS_BINARY: "", ...env });
}

const forwarded = { status: 0, stdout: forwardOutput, stderr: "" };

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
      "CONTRIBUTING.md",
      "LICENSE",
      "README.md",
      "SECURITY.md",
      "bench",
      "dist",
      "docs",
      "native",
      "package.json",
      "test",
    ];
    expect(readdirSync(unpacked).sort()).toEqual([...top, "scripts"].sort());
    expect(readdirSync(join(unpacked, "bench"))).toEqual(["results"]);
    expect(readdirSync(join(unpacked, "scripts")).sort()).toEqual(["build_native.mjs", "install.mjs"]);
    const ofTests = readdirSync(join(unpacked, "test"), { recursive: true, withFileTypes: true });
    expect(ofTests.flatMap((entry) => (entry.isFile() ? [entry.name] : []))).toEqual(["mixtral_small.safetensors"]);
  });

  test("names the platforms' packages, which the repository's manifest does not, and no package that it can do without", () => {
    const { scripts, imports, dependencies, optionalDependencies } = JSON.parse(
      readFileSync(join(unpacked, "package.json"), "utf8"),
    );
    expect(scripts).toEqual({ install: packageJson.scripts.install });
    expect(imports).toBeUndefined();
    expect(Object.keys(dependencies)).toEqual(["bindings", "cli-progress", "cli-table3", "node-addon-api"]);
    const names = Object.keys(platforms).map((name) => [platformPackage(name), packageJson.version]);
    expect(optionalDependencies).toEqual(Object.fromEntries(names));
    expect(packageJson.optionalDependencies).toBeUndefined();
  });

  test("has joined modules, and the types of each", () => {
    expect(existsSync(join(unpacked, "dist", "core", "tensors", "tensor.js"))).toBe(false);
    expect(existsSync(join(unpacked, "dist", "core", "tensors", "tensor.d.ts"))).toBe(true);
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

describe("installed without the platform's package and without its install script", () => {
  let project: string;
  beforeAll(() => {
    project = install("without addon", { options: ["--ignore-scripts", "--omit=optional"] }).project;
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

  test("has the same classes at every entry point", () => {
    const code = `const { MoeError } = require("moe-kernels");
      try { require("moe-kernels/safetensors").parseSafetensors(new Uint8Array(1)) }
      catch (error) { console.log(error instanceof MoeError, error.constructor.name, error.code) }`;
    expect(node(project, code)).toMatchObject({ status: 0, stdout: "true MoeError BAD_CHECKPOINT\n" });
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
    const tsc = join(repository, "node_modules", "typescript", "bin", "tsc");
    const compile = (modules: readonly string[], ...files: readonly string[]) => {
      const options = ["--target", "es2022", "--strict", "--typeRoots", typeRoots, "--types", "node"];
      const args = [tsc, "--noEmit", ...modules, ...options, ...files];
      const { status, stdout } = run(process.execPath, args, project);
      return { status, stdout };
    };
    const passed = { status: 0, stdout: "" };
    expect(compile(["--module", "nodenext"], "module.mts", "common.cts")).toEqual(passed);
    expect(compile(["--module", "esnext", "--moduleResolution", "bundler"], "module.mts")).toEqual(passed);
    const refused =
      compile(["--module", "node16"], "module.mts", "common.cts").stdout.match(/^\S.*error TS\d+/gm) ?? [];
    expect(refused.length).toBeGreaterThan(0);
    for (const line of refused) expect(line).toMatch(/^common\.cts\(.* error TS1479$/);
  });
});

describe("installed without the platform's package", () => {
  const options = ["--omit=optional", "--foreground-scripts"];

  test("says that there are no build tools, at install and at load", () => {
    const { project, folder, output } = install("without build tools", { options, env: noBuildTools });
    const log = join(folder, "build", "install.log");
    expect(output).toContain(`moe-kernels: the package ${platformPackage(platformName())} is not installed. Building`);
    expect(output).toContain("moe-kernels: the native addon was not built: the native addon needs CMake >= 3.22");
    expect(output).toContain(`Output of the build: ${log}`);
    const { stdout } = node(project, openCpu);
    expect(stdout).toMatch(/^NOT_BUILT /);
    expect(stdout).toContain(`The build at install failed. The end of ${log}:\n  the native addon needs CMake`);
    expect(stdout).toContain("not found: CMake (cmake on the PATH)");
  });

  test("says why the build failed, at install and at load, and leaves only the log", () => {
    const { project, folder, output } = install("broken compiler", { options, env: { CXX: "/bin/false" } });
    expect(output).toContain("moe-kernels: the native addon was not built: cmake configure failed: exit code 1");
    expect(readdirSync(join(folder, "build"))).toEqual(["install.log"]);
    expect(readFileSync(join(folder, "build", "install.log"), "utf8")).toContain("/bin/false");
    expect(node(project, openCpu).stdout).toContain("cmake configure failed: exit code 1");
  });

  test("builds from source, says how long it takes, and leaves only the addon", () => {
    // Only the cpu device with the portable kernels, not optimised, and files joined where they can be: the rest would
    // only make the test longer.
    const own = ["SIMT_LIBRARY=OFF", "CUDA=OFF", "X86=OFF", "OPTIMIZE=-O0", "PRECOMPILE=ON"].map(
      (setting) => `MOE_${setting}`,
    );
    const settings = [...own, "CMAKE_UNITY_BUILD=ON", "CMAKE_UNITY_BUILD_BATCH_SIZE=0"];
    const env = { MOE_KERNELS_CMAKE_OPTIONS: settings.map((setting) => `-D${setting}`).join(" ") };
    const { project, folder, output } = install("from source", { options, env });
    expect(output).toMatch(/moe-kernels: \S+ on \d+ CPUs: about \d+ minutes\. Output: .*install\.log/);
    // A quick build may pass a quarter between two lines of its output.
    expect(output).toMatch(/moe-kernels: (25|50|75) % after /);
    expect(output).toMatch(/moe-kernels: built .*moe_kernels\.node \(\d+ MiB\) in /);
    expect(output).toMatch(
      /moe-kernels: the simt device is left out: .+ has no std::source_location or std::atomic_ref; for it, set CXX /,
    );
    expect(output).toContain("moe-kernels: the cuda device is left out: it was configured with MOE_CUDA=OFF; for it,");
    expect(readdirSync(join(folder, "build"), { recursive: true })).toEqual(["Release", join("Release", addonFile)]);
    expect(forward(project)).toMatchObject(forwarded);
  });
});

describe("installed with the platform's package, without build tools", () => {
  test.each([
    ["npm", npm, []],
    ["npm --ignore-scripts", npm, ["--ignore-scripts"]],
    ["pnpm", pnpm, []],
    ["pnpm --ignore-scripts", pnpm, ["--ignore-scripts"]],
  ])("%s: computes on the cpu device", (name, manager, options) => {
    const { project, folder } = install(name, { manager, options, env: noBuildTools });
    expect(existsSync(join(folder, "build"))).toBe(false);
    expect(forward(project)).toMatchObject(forwarded);
  });
});

describe("installed with the platform's package", () => {
  let project: string;
  beforeAll(() => {
    project = install("with addon").project;
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

  test("computes under Node's permission model, and says what it must be given", () => {
    const permission = process.allowedNodeEnvironmentFlags.has("--permission")
      ? "--permission"
      : "--experimental-permission";
    const flags = ["--disable-warning=ExperimentalWarning", "--disable-warning=SecurityWarning", permission];
    const files = `--allow-fs-read=${project}`;
    expect(forward(project, { flags: [...flags, files, "--allow-addons"] })).toMatchObject(forwarded);
    const { status, stderr } = forward(project, { flags: [...flags, files] });
    expect(status).toBe(1);
    expect(stderr).toContain("does not load: Cannot load native addon because loading addons is disabled");
    expect(stderr).toContain("start Node with --allow-addons, and with --allow-fs-read");
  });

  test("computes in a webpack bundle with the package as an external", async () => {
    mkdirSync(join(project, "source"));
    const entry = join(project, "source", "app.mjs");
    writeFileSync(entry, forwardProgram);
    const compiled = await new Promise<webpack.Stats | undefined>((resolve, reject) =>
      webpack(
        {
          mode: "production",
          target: "node20",
          entry,
          experiments: { outputModule: true },
          output: { path: join(project, "out"), filename: "app.mjs", module: true },
          externals: { "moe-kernels": "module moe-kernels" },
        },
        (error, stats) => (error ? reject(error) : resolve(stats)),
      ),
    );
    expect(compiled?.compilation.errors).toEqual([]);
    const ran = run(process.execPath, [join("out", "app.mjs")], project, { MOE_KERNELS_BINARY: "" });
    expect(ran).toMatchObject(forwarded);
  });

  test("builds from source where that is asked for", () => {
    const script = join("node_modules", "moe-kernels", "scripts", "install.mjs");
    const { status, stderr } = run(process.execPath, [script, "--source"], project, noBuildTools);
    expect(status).toBe(0);
    expect(stderr).toContain("moe-kernels: a build from source was asked for. Building the native addon from source.");
    expect(stderr).toContain("moe-kernels: the native addon was not built: the native addon needs CMake");
  });

  test("goes on where the output of the build cannot be written", () => {
    const script = join("node_modules", "moe-kernels", "scripts", "install.mjs");
    const log = join(project, "node_modules", "moe-kernels", "build", "install.log");
    rmSync(log, { force: true });
    mkdirSync(log, { recursive: true });
    const { status, stderr } = run(process.execPath, [script, "--source"], project, { CXX: "/bin/false" });
    rmSync(log, { recursive: true });
    expect({ status, stderr }).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(
        /the output of the build is lost: EISDIR.*\n.*cmake configure failed: exit code 1/s,
      ),
    });
  });

  test("refuses the addon of another version", () => {
    const folder = join(project, "node_modules", platformPackage(platformName()));
    const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    expect(manifest).toMatchObject({ version: packageJson.version, os: [process.platform], cpu: [process.arch] });
    writeFileSync(join(folder, "package.json"), JSON.stringify({ ...manifest, version: "0.0.1" }));
    expect(node(project, openCpu).stdout).toContain(`has version 0.0.1, expected ${packageJson.version}`);
  });
});
