// Random calls of every public function, with valid arguments, hostile objects and damaged files, on all devices: see test/fuzz.
// Rounds run in child processes, so that a crash or a hang is a failure with a reproduction like any other.
import { fork } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "./build_native.mjs";
import { readOptions, wrongOption } from "./options.mjs";

const usage = `Usage: npm run fuzz -- [--seconds N] [--rounds N] [--seed S] [--device NAME] [--only KIND]
                      [--round R [--step K]]
       npm run fuzz -- --only KIND --count N [--seed S]

Random calls on reference, cpu and simt, or the named devices, for N seconds (default 60) or N rounds of 40 steps on each
device. Every failure is printed with what reproduces it: the same seed with --round, --step and --device, and the call as
JavaScript. With --only case, hostile, file or gguf, all steps are of this kind. With --only read-safetensors or read-gguf they
are damaged files, which go through the readers alone, without a device; --count N is for N steps, rounded up to whole rounds.`;

const stepsOfRound = 40;
/** Kinds of steps, and whether they run on every device. */
const kinds = { case: true, hostile: true, file: true, gguf: true, "read-safetensors": false, "read-gguf": false };

const text = { type: "string" };
const { values: flags } = readOptions(usage, {
  options: {
    seconds: text,
    rounds: text,
    seed: text,
    round: text,
    step: text,
    only: text,
    count: text,
    device: { ...text, multiple: true },
  },
});
const first = readNumber("round", 0);
const single = flags.round !== undefined;
if (flags.count !== undefined && (flags.rounds !== undefined || single)) {
  wrongOption(usage, "--count cannot be combined with --rounds or --round");
}
const counted = flags.count === undefined ? undefined : Math.ceil(readNumber("count", 0) / stepsOfRound);
const rounds = counted ?? readNumber("rounds", single ? 1 : 2 ** 31);
const seconds = readNumber("seconds", single || flags.rounds !== undefined || counted !== undefined ? 2 ** 31 : 60);
const step = flags.step === undefined ? {} : { step: readNumber("step", 0) };
if (flags.only !== undefined && !Object.hasOwn(kinds, flags.only)) {
  wrongOption(usage, `--only: expected one of ${Object.keys(kinds).join(", ")}, got "${flags.only}"`);
}
const only = flags.only === undefined ? {} : { only: flags.only };
const seed = flags.seed ?? String(Math.floor(Math.random() * 2 ** 32));
const onDevices = kinds[flags.only] ?? true;
const devices = onDevices ? (flags.device ?? ["reference", "cpu", "simt"]) : ["reference"];
/** Seconds without a sign of life after which a step is hung: more than the slowest takes under a sanitizer. */
const patience = 300;
/** Seconds after which a child is replaced, so that its memory stays small. */
const lifetime = 60;

/** Signals end the run early; it still tells what it did. */
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());

mkdirSync(join(root, "build"), { recursive: true });
const folder = mkdtempSync(join(root, "build", `fuzz-${process.pid}-`)); // inside the package, for the worker's imports
const worker = join(folder, "worker.mjs");
const log = join(folder, "step.log");
process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
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
const secondsSoFar = () => (performance.now() - start) / 1000;
let failures = 0;
for (let round = first; round < first + rounds && (round === first || secondsSoFar() < seconds); ) {
  if (stop.signal.aborted) break;
  round = await runChild(round);
}

const calls = totals.compared + totals.accepted + totals.refused;
const share = (100 * totals.compared) / Math.max(1, calls);
const compared = `${totals.compared} compared with reference (${share.toFixed(0)} %), ${totals.accepted} more accepted`;
const [what, accepted] = onDevices ? ["calls", compared] : ["damaged files", `${totals.accepted} accepted`];
console.log(
  `fuzz: seed ${seed}, ${calls} ${what} in ${secondsSoFar().toFixed(0)} s: ${accepted}, ${totals.refused} refused; ` +
    `${failures} failures`,
);
if (failures > 0) process.exitCode = 1;
if (!single && flags.only === undefined && share < 30) {
  console.error("fuzz: fewer than 30 % of the calls were compared");
  process.exitCode = 1;
}

/** Runs rounds from `round` on in a child; returns the next one. */
function runChild(round) {
  const left = Math.min(lifetime, seconds - secondsSoFar());
  const golden = join(root, "test/golden");
  const job = { seed, golden, log, devices, stepsOfRound, round, end: first + rounds, seconds: left, ...step, ...only };
  const child = fork(worker, [JSON.stringify(job)], {
    cwd: folder, // where calls with a hostile path write
    env: {
      MOE_KERNELS_BINARY: join(root, "build/Release/moe_kernels.node"),
      MOE_SIMT_ASYNC: "mixed", // copies that are late, and some that are early
      ...process.env,
    },
    execArgv: ["--enable-source-maps"],
  });
  let next = round;
  let silent;
  const end = () => child.kill("SIGKILL");
  stop.signal.addEventListener("abort", end);
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
      stop.signal.removeEventListener("abort", end);
      if (code === 0 || stop.signal.aborted) return resolve(next);
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
  console.error(
    `FAIL ${error}\n  call: ${source}\n  again: npm run fuzz -- ${place}${flags.only === undefined ? "" : ` --only ${flags.only}`}\n`,
  );
}

function readNumber(name, fallback) {
  const value = flags[name] === undefined ? fallback : Number(flags[name]);
  if (!(value >= 0 && value <= 2 ** 31)) {
    wrongOption(usage, `--${name}: expected a number >= 0, got "${flags[name]}"`);
  }
  return value;
}
