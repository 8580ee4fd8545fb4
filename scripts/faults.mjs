// Fails the allocations and thread starts of the addon in turn, one for each call stack, alone and with all that follow
// it. Each run must end with the right numbers or an error, and the same work must succeed afterwards.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { root } from "./build_native.mjs";
import { readOptions, wrongOption } from "./options.mjs";

const devices = ["cpu", "simt"];
const phases = [
  "addon",
  "open",
  "close",
  "create",
  "load",
  "cache",
  "forward",
  "offload",
  "budget",
  "split",
  "capture",
  "operators",
  "foreign",
  "training",
  "data",
];
const kinds = ["memory", "threads"];
const extents = { one: "one", "all from there on": "all" };
/** A run without output for this long hangs. */
const patience = 300_000;

const usage = `Usage: npm run test:faults -- [--device NAME] [--phase NAME] [--runs N] [--list]

Fails the allocations and thread starts of the addon in turn, one for each call stack, on ${devices.join(" and ")}, in these
phases: ${phases.join(", ")}.
--runs N limits each phase to about N failures. --list prints the sweeps and runs none.`;
const options = parseOptions();
const module = join(root, "build", "Release", "moe_faults.node");
const sweeps = devices
  .filter((device) => device === (options.device ?? device))
  .flatMap((device) => phases.map((phase) => ({ device, phase })))
  .filter(({ phase }) => phase === (options.phase ?? phase))
  // The addon is the same on every device, only cpu maps files, and only others leave experts to it.
  .filter(({ device, phase }) => !(device === "cpu" ? ["split"] : ["addon", "cache"]).includes(phase))
  .flatMap((sweep) => kinds.flatMap((kind) => Object.keys(extents).map((extent) => ({ ...sweep, kind, extent }))));

if (options.list) {
  for (const sweep of sweeps) console.log(nameOf(sweep));
  process.exit();
}
if (!existsSync(module)) {
  console.error(`faults: expected ${module}, which the build makes on Linux with glibc; npm run setup builds it`);
  process.exit(1);
}
const failures = [];
const unharmed = new Map();
let runs = 0;
for (const sweep of sweeps) await run(sweep);
console.log(`faults: ${runs} runs, ${failures.length} failed`);
for (const failure of failures) console.error(`  ${failure}`);
process.exit(failures.length > 0 ? 1 : 0);

function parseOptions() {
  const text = { type: "string" };
  const { values } = readOptions(usage, {
    options: { device: text, phase: text, runs: text, list: { type: "boolean" } },
  });
  for (const [name, known] of Object.entries({ device: devices, phase: phases })) {
    if (values[name] !== undefined && !known.includes(values[name])) {
      wrongOption(usage, `--${name}: expected one of ${known.join(", ")}, got ${values[name]}`);
    }
  }
  if (values.runs !== undefined && !/^[1-9]\d*$/.test(values.runs)) {
    wrongOption(usage, `--runs: expected an integer >= 1, got ${values.runs}`);
  }
  return values;
}

function nameOf({ device, phase, kind, extent }) {
  return `${device} ${phase}, ${kind}: ${extent}`;
}

/** Fails the calls of a sweep in turn. If a process ends early, another continues with the next call. */
async function run(sweep) {
  const { sites, outcome: failure } = await withoutFailure(sweep);
  if (failure !== undefined) failures.push(`${nameOf(sweep)}, without a call that fails: ${failure}`);
  const every = Math.max(1, Math.ceil((sites ?? 1) / Number(options.runs ?? Infinity)));
  const outcomes = new Map();
  const failed = [];
  for (let finished = failure !== undefined; !finished; ) {
    const before = failed.length;
    const { sites, outcome } = await scenario(sweep, extents[sweep.extent], every, failed, note);
    if (outcome !== undefined) {
      failures.push(`${nameOf(sweep)}, call stack ${failed.at(-1)}: ${outcome}`);
      note("wrong");
    }
    finished = sites !== undefined || failed.length === before;
  }
  const text = [...outcomes].map(([outcome, number]) => `${number} ${outcome}`).join(", ");
  console.log(`${nameOf(sweep)}: ${sites} call stacks${text && `: ${text}`}`);

  /** Counts a run by how it ended: `done`, `error CODE`, `wrong`. */
  function note(ended) {
    runs++;
    const outcome = ended.split(":")[0];
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
}

/** Runs a sweep's work without a call that fails: the same for one failure and for all from there on. */
function withoutFailure(sweep) {
  const { device, phase, kind } = sweep;
  const key = `${device} ${phase} ${kind}`;
  if (!unharmed.has(key)) unharmed.set(key, scenario(sweep, "none", 1, []));
  return unharmed.get(key);
}

/**
 * Runs a process that fails calls whose stacks are not in `failed`, and adds them there. Returns the number of call stacks
 * if it has come to the end, and what is wrong if it ended badly.
 */
function scenario(sweep, how, every, failed, onEnd = () => {}) {
  const { device, phase, kind } = sweep;
  const path = join(root, "test", "native", "faults", "scenario.mjs");
  const child = spawn(
    process.execPath,
    ["--expose-gc", path, module, device, phase, kind, how, String(every), ...failed],
    {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, LD_PRELOAD: module },
    },
  );
  let sites;
  let errors = "";
  let hangs = false;
  const watch = setTimeout(() => {
    hangs = true;
    child.kill("SIGKILL");
  }, patience);
  child.stderr.setEncoding("utf8").on("data", (text) => {
    errors += text;
  });
  createInterface({ input: child.stdout }).on("line", (line) => {
    watch.refresh();
    const [word, ...rest] = line.split(" ");
    if (word === "fails") failed.push(rest[0]);
    if (word === "sites") sites = Number(rest[0]);
    if (word !== "end") return;
    onEnd(rest.join(" "));
    if (rest[0] === "wrong:") failures.push(`${nameOf(sweep)}, call stack ${failed.at(-1)}: ${rest.join(" ")}`);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(watch);
      const why = hangs ? "hangs" : `ended with ${signal ?? `exit code ${code}`}`;
      resolve({ sites, outcome: code === 0 ? undefined : `${why}: ${errors.trim().slice(0, 600)}` });
    });
  });
}
