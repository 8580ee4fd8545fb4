// Brings a checkout up to date: dependencies, compiled TypeScript, native addon. Skips what is up to date already.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { buildNative, describeToolchain, root } from "./build_native.mjs";
import { listFiles } from "./files.mjs";
import { readOptions, wrongOption } from "./options.mjs";

/** The targets and settings of each native part. The addon comes with every other part. */
const parts = {
  cpu: { targets: ["moe_kernels"], defines: { MOE_CUDA: "OFF" } },
  simt: { file: "moe_kernels_simt.so", targets: ["moe_kernels_simt"], defines: { MOE_CUDA: "OFF" } },
  cuda: { file: "moe_kernels_cuda.so", targets: ["moe_kernels_cuda"], defines: { MOE_CUDA: "ON" } },
};
const usage = `Usage: npm run setup -- [--only LIST | --typescript] [--bench] [--examples] [--peers] [--docs]

Makes everything that the tests need: the addon with all instruction sets, the libraries of the simt device and, where
there is an nvcc, of the cuda device, and the native tests. --only makes some of ${Object.keys(parts).join(", ")}, separated by commas, with
the instruction sets that this processor uses; --typescript makes none. --bench also compiles the benchmarks, --examples the
examples, --peers installs the software that benchmarks compare with, --docs writes the reference of the exports to docs/api.`;
const { values: flags } = readOptions(usage, {
  options: {
    only: { type: "string" },
    ...Object.fromEntries(
      ["typescript", "bench", "examples", "peers", "docs"].map((name) => [name, { type: "boolean" }]),
    ),
  },
});
const only = flags.only?.split(",");
for (const part of only ?? []) {
  if (!Object.hasOwn(parts, part)) {
    wrongOption(usage, `--only: expected some of ${Object.keys(parts).join(", ")}, got ${part}`);
  }
}
process.chdir(root);

updateDependencies("dependencies", ".");
if (flags.peers) updateDependencies("peers", "bench/peers/programs");
update("typescript", "tsc, lib to build/lib; esbuild, its modules joined to dist", {
  inputs: ["lib", "package.json", "scripts/join_modules.mjs", "tsconfig.json", "package-lock.json"],
  output: "dist/index.js",
  make: compileLibrary,
});
if (flags.bench) {
  update("bench", "tsc, bench to build/bench", {
    inputs: ["bench", "lib", "tsconfig.json", "tsconfig.bench.json", "package-lock.json"],
    output: "build/bench/offload.js",
    make: () => compile("tsconfig.bench.json"),
  });
}
if (flags.examples) {
  update("examples", "tsc, examples to build/examples", {
    inputs: ["examples", "lib", "tsconfig.json", "tsconfig.examples.json", "package-lock.json"],
    output: "build/examples/transformer/commands/train.js",
    make: () => compile("tsconfig.examples.json"),
  });
}
if (flags.docs) {
  update("docs", "typedoc, lib to docs/api", {
    inputs: ["lib", "tsconfig.json", "typedoc.json", "package-lock.json"],
    output: "docs/api/README.md",
    make: () => run(process.execPath, ["node_modules/typedoc/bin/typedoc"]),
  });
}
if (!flags.typescript) {
  const toolchain = [root, cpus()[0]?.model, ...describeToolchain()];
  const known = digest([], toolchain);
  // A folder that has all instruction sets keeps them.
  const complete = only === undefined || existsSync(stampPath("native"));
  const sets = { MOE_INSTRUCTION_SETS: complete ? "all" : "native" };
  const native = (name, description, { file = "moe_kernels.node", targets, defines }) =>
    update(name, `CMake, ${description} to build/Release`, {
      inputs: ["native", "test/native", "CMakeLists.txt", "scripts/build_native.mjs", "package-lock.json"],
      facts: toolchain,
      output: `build/Release/${file}`,
      within: "native",
      make() {
        const fresh = !isFresh("toolchain", known);
        remember("toolchain", known);
        return buildNative({ fresh, targets, defines: { ...sets, ...defines } });
      },
    });
  if (only === undefined)
    native("native", "the addon, its devices and the native tests", { defines: { MOE_CUDA: "AUTO" } });
  for (const part of only ?? []) native(part, part === "cpu" ? "the addon" : `the ${part} device`, parts[part]);
}

/** Installs the packages of the lock file in `folder`, without their install scripts. */
function updateDependencies(name, folder) {
  if (!dependenciesMatchLockFile(folder)) task(name, `npm ci in ${folder}`, () => installDependencies(folder));
}

/**
 * Makes `output` again if it is missing, or if `inputs` (files and folders) or `facts` have changed since it was made, also
 * as a part of what `within` names.
 */
function update(name, description, { inputs, facts = [], output, within = name, make }) {
  const wanted = digest(inputs, facts);
  if (existsSync(output) && (isFresh(name, wanted) || isFresh(within, wanted))) return;
  task(name, description, make);
  remember(name, wanted);
}

/** Runs `make` and reports what it does and how long it took. A returned text is the reason for a failure. */
function task(name, description, make) {
  console.log(`setup: ${name} (${description}) ...`);
  const start = performance.now();
  const failure = make();
  if (failure) {
    console.error(`setup: ${name} failed: ${failure}`);
    process.exit(1);
  }
  console.log(`setup: ${name} done in ${((performance.now() - start) / 1000).toFixed(1)} s`);
}

/** Whether node_modules matches package-lock.json, according to npm's own list of installed packages. */
function dependenciesMatchLockFile(folder) {
  const installed = readPackages(join(folder, "node_modules/.package-lock.json"));
  return Object.entries(readPackages(join(folder, "package-lock.json"))).every(([path, wanted]) => {
    if (path === "") return true;
    const found = installed[path];
    if (!found || !existsSync(join(folder, path))) return wanted.optional === true && !isForThisMachine(wanted);
    return found.version === wanted.version && found.integrity === wanted.integrity;
  });
}

/** Whether an optional package names this system; npm leaves out those that name others. */
function isForThisMachine({ os, cpu, libc }) {
  if (!os?.includes(process.platform) || !cpu?.includes(process.arch)) return false;
  if (libc === undefined) return true;
  // As in lib/core/addon/platforms.ts, which may not be compiled yet.
  process.report.excludeNetwork = true;
  return libc.includes(process.report.getReport().header.glibcVersionRuntime ? "glibc" : "musl");
}

function readPackages(lockFile) {
  return existsSync(lockFile) ? JSON.parse(readFileSync(lockFile, "utf8")).packages : {};
}

function installDependencies(folder) {
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  const npm = process.env.npm_execpath;
  return npm
    ? run(process.execPath, [npm, ...args], { cwd: folder })
    : run("npm", args, { cwd: folder, shell: process.platform === "win32" });
}

function compile(project) {
  return run(process.execPath, ["node_modules/typescript/bin/tsc", "-p", project]);
}

function compileLibrary() {
  const failure = compile("tsconfig.json");
  if (failure) return failure;
  // Types of deleted source files would be published with the rest.
  for (const path of [...listFiles("build/lib"), ...listFiles("dist")]) {
    const source = path.replace(/^(build\/lib|dist)/, "lib").replace(/(\.d\.ts|\.js(\.map)?)$/, ".ts");
    if (!existsSync(source)) rmSync(path);
  }
  const unjoined = run(process.execPath, ["scripts/join_modules.mjs"]);
  if (unjoined) return unjoined;
  chmodSync("dist/cli/main.js", 0o755);
  return undefined;
}

function run(command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, { stdio: "inherit", ...options });
  if (error) return `${command}: ${error.message}`;
  return status === 0 ? undefined : `${[command, ...args].join(" ")}: ${signal ?? `exit code ${status}`}`;
}

/** A hash of the contents of files and folders, and of `facts`. */
function digest(inputs, facts) {
  const hash = createHash("sha256").update(JSON.stringify(facts));
  for (const path of inputs.flatMap(listFiles)) {
    const content = readFileSync(path);
    hash.update(`${path}\0${content.length}\0`).update(content);
  }
  return hash.digest("hex");
}

function stampPath(name) {
  return join("build", "stamps", name);
}

function isFresh(name, wanted) {
  return existsSync(stampPath(name)) && readFileSync(stampPath(name), "utf8") === wanted;
}

function remember(name, made) {
  mkdirSync(dirname(stampPath(name)), { recursive: true });
  writeFileSync(stampPath(name), made);
}
