import { spawnSync } from "node:child_process";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { findExecutable, findTools } from "../build_native.mjs";

const fields = [
  "name",
  "driver_version",
  "compute_cap",
  "memory.total",
  "clocks.sm",
  "clocks.mem",
  "clocks.max.sm",
  "power.limit",
];
/** The kernels need compute capability 8.0. */
const leastCapability = 8;

/** The first drivers for what each major version of CUDA builds. */
const leastDrivers = { 12: 525, 13: 580 };

/**
 * The cards, their driver and clocks, and the tools; `architectures` are those to compile for, if the cards are known and
 * nvcc knows them. Else the build's own are taken, whose PTX the driver compiles for later cards. `warning`: that the driver
 * will refuse what nvcc builds.
 * Cards are in the order of nvidia-smi, which need not be that of CUDA, and all are listed, whichever are visible to CUDA.
 */
export function describeMachine(device) {
  const { nvcc } = findTools();
  const release = nvcc && run(nvcc, ["--version"]).output.match(/release ([\d.]+)/)?.[1];
  const machine = { device, cpu: cpus()[0]?.model.trim(), node: process.version, nvcc: release ?? "none" };
  if (device !== "cuda") return machine;
  const { failure, output } = run("nvidia-smi", [`--query-gpu=${fields.join(",")}`, "--format=csv,noheader"]);
  if (failure !== undefined) return { ...machine, cards: failure };
  const cards = output.split("\n").map((line) => {
    const values = line.split(",").map((value) => value.trim());
    return Object.fromEntries(fields.map((field, index) => [field, values[index] ?? "unknown"]));
  });
  const capabilities = cards.map((card) => card.compute_cap).filter((text) => Number(text) >= leastCapability);
  const numbers = [...new Set(capabilities)].map((text) => text.replace(".", ""));
  const known = nvcc === undefined ? "" : run(nvcc, ["--list-gpu-code"]).output;
  const compiles = numbers.length > 0 && numbers.every((number) => known.split(/\s+/).includes(`sm_${number}`));
  // Hopper-specific instructions need 90a.
  const architectures = numbers.map((number) => `${number}${number === "90" ? "a" : ""}-real`);
  const warning = driverWarning(release, cards[0].driver_version);
  return { ...machine, cards, ...(compiles && { architectures }), ...(warning && { warning }) };
}

/** Where compute-sanitizer is: on the PATH, or beside an nvcc that is not. */
export function findSanitizer() {
  const { nvcc } = findTools();
  const beside = nvcc && findExecutable(join(dirname(nvcc), "compute-sanitizer"));
  return findExecutable("compute-sanitizer") ?? beside;
}

function driverWarning(release, driver) {
  const least = leastDrivers[Number.parseInt(release, 10)];
  if (least === undefined || !(Number.parseInt(driver, 10) < least)) return undefined;
  return (
    `driver ${driver} does not run what CUDA ${release} builds, which needs ${least} or later: ` +
    "install an earlier toolkit and set CUDACXX to its nvcc, or update the driver"
  );
}

/** Runs a tool. `failure` is what it printed if it failed, such as an nvidia-smi that does not know a field. */
function run(command, args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (error?.code === "ENOENT") return { failure: `${command} was not found`, output: "" };
  if (error) return { failure: `${command}: ${error.message}`, output: "" };
  const output = stdout.trim();
  if (status === 0) return { output };
  return { failure: `${command} failed: ${`${output} ${stderr}`.trim().replaceAll(/\s+/g, " ")}`, output };
}
