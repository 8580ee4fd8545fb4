// Random calls of every public function, with valid arguments, hostile objects and damaged files, on all devices: see test/fuzz.
// Rounds run in child processes, so that a crash or a hang is a failure with a reproduction like any other.
import { fork } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { root } from "./build_native.mjs";

const usage = `Usage: npm run fuzz -- [--seconds N] [--seed S] [--device NAME] [--round R [--step K]]

Random calls on reference, cpu and simt, or the named devices, for N seconds (default 60). Every failure is printed with
what reproduces it: the same seed with --round, --step and --device, and the call as JavaScript.`;

const { values: flags } = readFlags();
const seconds = readNumber("seconds", 60);
const seed = flags.seed ?? String(Math.floor(Math.random() * 2 ** 32));
const devices = flags.device ?? ["reference", "cpu", "simt"];
const single = flags.round !== undefined;
/** Seconds without a sign of life after which a step is hung: more than the slowest takes under a sanitizer. */
const patience = 300;
/** Seconds after which a child is replaced, so that its memory stays small. */
const lifetime = 60;

const folder = join(root, "build", "fuzz");
const worker = join(folder, "worker.mjs");
const log = join(folder, `step-${process.pid}.log`);
mkdirSync(folder, { recursive: true });
await build({
  entryPoints: [join(root, "test/fuzz/worker.ts")],
  outfile: worker,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node20",
  packages: "external",
  sourcemap: true,
  logLevel: "warning",
});

const totals = { compared: 0, accepted: 0, refused: 0 };
const start = performance.now();
let round = single ? readNumber("round", 0) : 0;
let failures = 0;
do {
  const left = seconds - (performance.now() - start) / 1000;
  round = await runChild(round, single ? 0 : Math.min(lifetime, left));
} while (!single && performance.now() - start < 1000 * seconds);

const calls = totals.compared + totals.accepted + totals.refused;
const share = (100 * totals.compared) / Math.max(1, calls);
const counts = `${totals.accepted} more accepted, ${totals.refused} refused`;
console.log(
  `fuzz: seed ${seed}, ${calls} calls in ${((performance.now() - start) / 1000).toFixed(0)} s: ` +
    `${totals.compared} compared with reference (${share.toFixed(0)} %), ${counts}; ${failures} failures`,
);
if (!single && share < 30) fail("fuzz: fewer than 30 % of the calls were compared");
if (failures > 0) process.exitCode = 1;

/** Runs rounds from `first` in a child; returns the next one. */
function runChild(first, lifetime) {
  const step = flags.step === undefined ? {} : { step: readNumber("step", 0) };
  const job = { seed, golden: join(root, "test/golden"), log, devices, round: first, ...step, seconds: lifetime };
  const child = fork(worker, [JSON.stringify(job)], {
    env: { MOE_KERNELS_BINARY: join(root, "build/Release/moe_kernels.node"), ...process.env },
    execArgv: ["--enable-source-maps"],
  });
  let next = first;
  let silent;
  const wait = () => {
    clearTimeout(silent);
    silent = setTimeout(() => child.kill("SIGKILL"), 1000 * patience);
  };
  wait();
  child.on("message", (message) => {
    wait();
    if (message.kind === "failure") {
      report(message);
      return;
    }
    next = message.round + 1;
    for (const [outcome, count] of Object.entries(message.outcomes)) totals[outcome] += count;
  });
  return new Promise((resolve) => {
    child.on("exit", (code, signal) => {
      clearTimeout(silent);
      if (code === 0) return resolve(next);
      const how =
        signal === "SIGKILL" ? `killed, after ${patience} s without an end or by the system` : (signal ?? code);
      const source = existsSync(log) ? readFileSync(log, "utf8") : "nothing yet";
      report({ place: `--seed ${seed} --round ${next}`, source, error: `the process ended: ${how}` });
      resolve(next + 1);
    });
  });
}

function report({ place, source, error }) {
  failures += 1;
  console.error(`FAIL ${error}\n  call: ${source}\n  again: npm run fuzz -- ${place}\n`);
}

function readNumber(name, fallback) {
  const value = flags[name] === undefined ? fallback : Number(flags[name]);
  if (!(value >= 0 && value < 2 ** 31)) fail(`--${name}: expected a number >= 0, got "${flags[name]}"\n${usage}`);
  return value;
}

function readFlags() {
  const text = { type: "string" };
  try {
    const parsed = parseArgs({
      options: {
        seconds: text,
        seed: text,
        round: text,
        step: text,
        device: { ...text, multiple: true },
        help: { type: "boolean", short: "h" },
      },
    });
    if (!parsed.values.help) return parsed;
    console.log(usage);
    process.exit(0);
  } catch (error) {
    return fail(`${error.message}\n${usage}`);
  }
}

function fail(message) {
  console.error(message);
  process.exit(2);
}
