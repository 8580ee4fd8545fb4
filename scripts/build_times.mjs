// Builds everything in a folder of its own, and prints the CPU seconds of each part and of the slowest files.
import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { buildNative, root } from "./build_native.mjs";
import { readOptions } from "./options.mjs";

const usage = `Usage: npm run bench:build -- [--target NAME...] [--slowest N]

Builds the addon, all devices that this machine can build and the native tests into build/times, from nothing, and prints
CPU seconds by part, the N slowest files (10) and the sizes of what was linked. --target builds only a target of CMake.`;
const { values } = readOptions(usage, {
  options: { target: { type: "string", multiple: true, default: [] }, slowest: { type: "string", default: "10" } },
});

/** Parts of the build, by the paths of their objects; the first that matches. */
const parts = {
  "PTX machine": /ptx_machine|moe_ptx/,
  cuda: /moe_cuda\.dir|moe_kernels_cuda/,
  simt: /moe_simt|moe_kernels_simt|moe_gpu_plan\.dir/,
  cpu: /moe_cpu\.dir/,
  tests: /test\/native/,
  "core and binding": /./,
};

const out = join(root, "build", "times");
rmSync(out, { recursive: true, force: true });
const log = join(root, "build", "times.log");
rmSync(log, { force: true });
const launcher = `${join(root, "scripts", "build_times", "timed_compiler.sh")};${log}`;
const started = performance.now();
const failure = buildNative({
  out,
  targets: values.target,
  defines: { CMAKE_CXX_COMPILER_LAUNCHER: launcher, CMAKE_CUDA_COMPILER_LAUNCHER: launcher },
});
if (failure) {
  console.error(`bench:build: ${failure}`);
  process.exit(1);
}
const wall = (performance.now() - started) / 1000;
const files = readFileSync(log, "utf8")
  .trim()
  .split("\n")
  .map((line) => line.split(" "))
  // Linking has a launcher of its own.
  .filter(([, , path]) => path?.endsWith(".o"))
  .map(([user, system, path]) => ({ path, seconds: Number(user) + Number(system), part: partOf(path) }))
  .sort((one, other) => other.seconds - one.seconds);

console.log(`\n${cpus()[0]?.model}, ${availableParallelism()} CPUs: ${wall.toFixed(0)} s\n`);
console.log("| part | files | CPU seconds |\n| --- | ---: | ---: |");
for (const part of [...Object.keys(parts), "all"]) {
  const own = files.filter((file) => part === "all" || file.part === part);
  if (own.length > 0) console.log(`| ${part} | ${own.length} | ${sum(own).toFixed(0)} |`);
}
console.log("\n| slowest files | CPU seconds |\n| --- | ---: |");
for (const { path, seconds } of files.slice(0, Number(values.slowest))) {
  console.log(`| ${shortened(path)} | ${seconds.toFixed(1)} |`);
}
const linked = readdirSync(out, { withFileTypes: true }).some((entry) => entry.name === "Release")
  ? readdirSync(join(out, "Release"))
  : [];
if (linked.length > 0) console.log("\n| file | MB, with symbols |\n| --- | ---: |");
for (const file of linked) console.log(`| ${file} | ${(statSync(join(out, "Release", file)).size / 1e6).toFixed(1)} |`);

function partOf(path) {
  return Object.keys(parts).find((part) => parts[part].test(path));
}

function sum(list) {
  return list.reduce((total, { seconds }) => total + seconds, 0);
}

/** The source, behind the target that it was compiled for. */
function shortened(path) {
  const [, target, source] = path.match(/(\w+)\.dir\/(?:__\/)*(.*)\.o$/) ?? [undefined, "", path];
  return `${target}: ${source}`;
}
