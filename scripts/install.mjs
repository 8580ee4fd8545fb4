// npm's install script: builds the addon from source where this platform's package is missing or does not load. Never
// fails an installation: without the addon the package still loads, its `reference` device works, and everything that
// needs the addon says what is missing.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { finished } from "node:stream/promises";
import { parseArgs } from "node:util";
import { buildCommands, describeMissingTools, findTools, root, strip } from "./build_native.mjs";

/** What a build takes on one core, in minutes: a rough guess, as machines differ. */
const minutes = { cpp: 15, cuda: 60 };

const { values } = parseArgs({ options: { source: { type: "boolean", default: false } } });
// A source checkout is set up by scripts/setup.mjs, which the published package does not have.
if (values.source || !existsSync(join(root, "scripts", "setup.mjs"))) await install();

async function install() {
  const { buildFolder, platformAddon } = await import("../dist/core/addon/addon_files.js");
  const { installLog } = await import("../dist/core/addon/not_built.js");
  const { addonFile } = await import("../dist/core/addon/platforms.js");
  const found = platformAddon();
  const problem = values.source ? "a build from source was asked for" : (found.missing ?? problemOf(found.file));
  if (problem === undefined) return;
  const log = join(root, installLog);
  const target = join(root, buildFolder, addonFile);
  say(`${problem}. Building the native addon from source.`);
  const start = performance.now();
  let failure;
  try {
    failure = await build(log, target);
  } catch (error) {
    failure = error.message; // such as a package's folder that is read-only
  }
  if (failure === undefined) {
    rmSync(log, { force: true });
    say(`built ${target} (${(statSync(target).size / 2 ** 20).toFixed(0)} MiB) in ${since(start)}.`);
    return;
  }
  say(`the native addon was not built: ${failure}`);
  say(`the package is installed all the same, with only its reference device. Output of the build: ${log}`);
}

/** Why an addon does not load here; undefined if it does. */
function problemOf(file) {
  try {
    createRequire(import.meta.url)(file);
    return undefined;
  } catch (error) {
    return `${file} does not load here (${error.message})`;
  }
}

/** Builds in a folder that is removed afterwards. Returns why it failed; undefined if it succeeded. */
async function build(log, target) {
  mkdirSync(dirname(log), { recursive: true });
  const output = createWriteStream(log);
  // Such as a disk that is full; what is built may yet be there.
  output.on("error", ({ message }) => say(`the output of the build is lost: ${message}`));
  const out = join("build", "source");
  const folder = join(root, out);
  rmSync(folder, { force: true, recursive: true });
  try {
    const failure = describeMissingTools() ?? (await runAll(buildCommands({ out }), output, log));
    if (failure !== undefined) {
      output.write(`${failure}\n`);
      return failure;
    }
    mkdirSync(dirname(target), { recursive: true });
    const built = join(folder, "Release");
    // The addon last: where it is, the rest is.
    const files = readdirSync(built).sort((one) => (one === basename(target) ? 1 : -1));
    for (const file of files) {
      strip(join(built, file));
      copyFileSync(join(built, file), join(dirname(target), file));
    }
    const missing = readFileSync(join(folder, "missing_devices.txt"), "utf8").trim();
    for (const line of missing.split("\n").filter(Boolean)) say(line);
    return undefined;
  } finally {
    output.end();
    await finished(output).catch(() => {});
    rmSync(folder, { force: true, recursive: true });
  }
}

async function runAll(commands, output, log) {
  const { compiler, nvcc } = findTools();
  const cpus = availableParallelism();
  const guess = (total) => `about ${Math.max(1, Math.round(total / cpus))} minutes`;
  say(`${compiler} on ${cpus} CPUs: ${guess(minutes.cpp)}. Output: ${log}`);
  if (nvcc)
    say(
      `${nvcc} for the cuda device: ${guess(minutes.cuda)} more. Without it: MOE_KERNELS_CMAKE_OPTIONS=-DMOE_CUDA=OFF`,
    );
  for (const { name, command, args } of commands) {
    const failure = await run(command, args, output);
    if (failure !== undefined) return `${name} failed: ${failure}`;
  }
  return undefined;
}

/** Runs a tool with its output in the log, and reports each quarter of its progress. */
async function run(command, args, output) {
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const start = performance.now();
  let quarters = 0;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (text) => {
      output.write(text);
      const reached = Math.floor(4 * progressOf(String(text)));
      if (reached <= quarters) return;
      quarters = reached;
      if (quarters < 4) say(`${quarters * 25} % after ${since(start)}`);
    });
  }
  try {
    const [status, signal] = await once(child, "close");
    return status === 0 ? undefined : (signal ?? `exit code ${status}`);
  } catch (error) {
    return error.message; // it did not start
  }
}

/** The share that is done, as Ninja ("[12/400]") and Make ("[  3%]") tell at the start of a line. */
function progressOf(text) {
  const found = text.match(/^\[\s*(\d+)(?:\/(\d+)|%)\]/m);
  return found ? Number(found[1]) / Number(found[2] ?? 100) : 0;
}

function since(start) {
  const seconds = (performance.now() - start) / 1000;
  return seconds < 90 ? `${seconds.toFixed(0)} s` : `${(seconds / 60).toFixed(1)} min`;
}

function say(text) {
  console.warn(`moe-kernels: ${text}`);
}
