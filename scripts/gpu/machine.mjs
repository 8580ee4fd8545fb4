import { spawnSync } from "node:child_process";
import { cpus } from "node:os";
import { findTools } from "../build_native.mjs";

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

/**
 * The cards, their driver and clocks, and the tools; `architectures` are those to compile for, if the cards are known.
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
  // Hopper-specific instructions need 90a.
  const architectures = [...new Set(capabilities)].map(
    (text) => `${text.replace(".", "")}${text === "9.0" ? "a" : ""}-real`,
  );
  return { ...machine, cards, ...(architectures.length > 0 && { architectures }) };
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
