// Checks and times everything on a GPU machine, without network access: builds for its GPUs, verifies on the first, runs
// compute-sanitizer if it is installed, and times every operator and the layer, and PyTorch if Python has it.
// Each step is reported when it ends, also in gpu.md and gpu.json, so that a run that is cut short leaves results. Needs
// dist/ (npm run gpu makes it), nvcc, CMake and a C++ compiler.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { buildNative, root } from "./build_native.mjs";
import { describeMachine, findSanitizer } from "./gpu/machine.mjs";
import { planFor } from "./gpu/plan.mjs";
import { renderReport } from "./gpu/report.mjs";
import { readOptions, wrongOption } from "./options.mjs";

const usage = `Usage: npm run gpu -- [--device cuda|simt] [--out DIR] [--minutes N] [--addon FILE] [--quick]

Builds for this machine's GPUs, then verifies and times everything on the first within N minutes (default 8), and writes
gpu.md and gpu.json to DIR (build/gpu). --addon uses an addon that is already built; --quick runs the smallest cases only.`;
const { values } = readOptions(usage, {
  options: {
    device: { type: "string", default: "cuda" },
    out: { type: "string", default: "build/gpu" },
    minutes: { type: "string", default: "8" },
    addon: { type: "string" },
    quick: { type: "boolean", default: false },
  },
});
if (!["cuda", "simt"].includes(values.device)) {
  wrongOption(usage, `--device: expected cuda or simt, got ${values.device}`);
}
const minutes = Number(values.minutes);
if (!(minutes > 0)) wrongOption(usage, `--minutes: expected a number > 0, got ${values.minutes}`);

process.chdir(root);
const plan = planFor(values.device, values.quick);
// For the steps after the build, which may take as long as it needs.
let deadline = Number.POSITIVE_INFINITY;
const buildFolder = join(values.out, values.device);
const environment = {
  ...process.env,
  MOE_KERNELS_BINARY: resolve(values.addon ?? join(buildFolder, "RelWithDebInfo", "moe_kernels.node")),
};
const cli = join("dist", "cli", "main.js");
const report = { machine: describeMachine(values.device), date: new Date().toISOString(), steps: [] };
mkdirSync(values.out, { recursive: true });
console.log(JSON.stringify(report.machine, null, 2));

if (values.addon === undefined) {
  await step("build", build);
  if (!report.steps[0].passed) process.exit(1);
}
// What runs is the first GPU in CUDA's order, which nvidia-smi's list does not tell.
report.machine.opened = describeOpened();
console.log(`${values.device}: ${report.machine.opened}`);
deadline = performance.now() + minutes * 60_000;
await step("verify", () => runNode([cli, "verify", "--device", values.device, "--filter", plan.filter]));
for (const dtype of ["f32", "bf16"]) await step(`golden files, ${dtype}`, () => checkGolden(dtype));
const sanitizer = values.device === "cuda" ? findSanitizer() : undefined;
if (sanitizer !== undefined) {
  for (const tool of ["memcheck", "racecheck", "synccheck"]) {
    await step(`compute-sanitizer ${tool}`, () => sanitize(tool));
  }
}
if (values.device === "cuda" && isThere("python3", ["-c", "import torch"])) {
  await step("PyTorch", () => run("python3", [join("scripts", "gpu", "torch_baseline.py"), JSON.stringify(plan)]));
}
await step("benchmarks", () => runNode([cli, "bench", ...benchOptions()]));
// Hopper has kernels of its own; simt has them too, but does not use them unless asked.
const isHopper = report.machine.opened.includes("compute capability 9.0");
const other = values.device === "simt" ? "90" : isHopper ? "80" : undefined;
if (other !== undefined) {
  const env = { MOE_GPU_CAPABILITY: other };
  await step(`benchmarks, MOE_GPU_CAPABILITY=${other}`, () => runNode([cli, "bench", ...benchOptions()], { env }));
}

const failed = report.steps.filter(({ passed }) => !passed);
console.log(`${report.steps.length - failed.length} steps passed, ${failed.length} failed; see ${values.out}/gpu.md`);
process.exitCode = failed.length > 0 ? 1 : 0;

/** Runs one step and rewrites the report. After the deadline, steps are no longer started. */
async function step(name, work) {
  const started = performance.now();
  const result = started < deadline ? await work() : { passed: false, output: "not started: no time left" };
  const seconds = (performance.now() - started) / 1000;
  report.steps.push({ name, seconds, ...result });
  console.log(`${result.passed ? "pass" : "FAIL"} ${name}, ${seconds.toFixed(1)} s`);
  writeFileSync(join(values.out, "gpu.json"), `${JSON.stringify(report, null, 2)}\n`);
  writeFileSync(join(values.out, "gpu.md"), renderReport(report));
}

/** A turn of a benchmark is one sample: calls between two waits, so that their times add up and the wait's is shared. */
function benchOptions() {
  const shapes = Object.values(plan.shapes).map(({ hiddenSize, intermediateSize, numExperts, topK }) =>
    [hiddenSize, intermediateSize, numExperts, topK].join("x"),
  );
  const sizes = { shape: shapes, tokens: plan.tokens, weights: plan.weights };
  const sampling = { rounds: plan.samples, calls: plan.calls, time: 1e-6 };
  return Object.entries({ device: values.device, ...sizes, ...sampling }).flatMap(([name, value]) => [
    `--${name}`,
    String(value),
  ]);
}

/** The device that the steps run on, or why there is none. */
function describeOpened() {
  const { status, stdout } = spawnSync(process.execPath, [cli, "info", "--json"], {
    env: environment,
    encoding: "utf8",
  });
  if (status !== 0) return "unknown: moe-kernels info failed";
  return JSON.parse(stdout).devices.find(({ kind }) => kind === values.device).detail;
}

function build() {
  const { architectures } = report.machine;
  const failure = buildNative({
    out: buildFolder,
    fresh: true, // the tools may have been repaired since
    config: "RelWithDebInfo",
    defines: {
      MOE_BUILD_TESTS: "OFF",
      MOE_SIMT: values.device === "simt" ? "ON" : "OFF",
      MOE_CUDA: values.device === "cuda" ? "ON" : "OFF",
      ...(architectures && { MOE_CUDA_ARCHITECTURES: architectures.join(";") }),
    },
  });
  if (failure) console.error(failure);
  return { passed: failure === undefined, output: failure ?? "" };
}

async function checkGolden(dtype) {
  const folder = join("test", "golden");
  const files = readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(`${plan.golden}.safetensors`) && !name.startsWith("families"))
    .sort();
  const lines = [];
  let passed = files.length > 0;
  for (const file of files) {
    const options = [
      "--file",
      join(folder, file),
      "--device",
      values.device,
      "--dtype",
      dtype,
      "--repeat",
      "1",
      "--json",
    ];
    const result = await runNode([cli, "run", ...options], { quiet: true });
    passed &&= result.passed;
    lines.push(`${result.passed ? "pass" : "FAIL"} ${file}${result.passed ? "" : `\n${result.output}`}`);
    console.log(lines.at(-1));
  }
  return { passed, output: lines.join("\n") };
}

/**
 * Runs a small part of the case table: the tools make kernels a hundred times slower. Not initcheck: `verify` fills fresh
 * memory with NaN, which counts as initialised.
 */
function sanitize(tool) {
  const filter = "T9 ";
  // Memory is granted and released in stream order, which memcheck does not watch by itself.
  const own = tool === "memcheck" ? ["--padding", "64", "--track-stream-ordered-races", "all"] : [];
  const options = ["--tool", tool, "--error-exitcode", "1", ...own];
  return run(sanitizer, [...options, process.execPath, cli, "verify", "--device", "cuda", "--filter", filter]);
}

function isThere(command, args) {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

function runNode(args, options) {
  return run(process.execPath, args, options);
}

/** Runs a program until it exits or the deadline passes, showing its output. */
function run(command, args, { quiet = false, env = {} } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { env: { ...environment, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let expired = false;
    const timer = setTimeout(
      () => {
        expired = true;
        child.kill("SIGKILL");
      },
      // A timer cannot wait for ever.
      Math.min(Math.max(0, deadline - performance.now()), 2 ** 31 - 1),
    );
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
        if (!quiet) process.stderr.write(text);
      });
    }
    const end = (passed, note) => {
      clearTimeout(timer);
      resolve({ passed, output: `${output}${note}`.trim() });
    };
    child.on("error", (error) => end(false, `${command}: ${error.message}`));
    child.on("close", (code, signal) =>
      end(code === 0, expired ? "\nstopped: out of time" : code === 0 ? "" : `\n${signal ?? `exit code ${code}`}`),
    );
  });
}
