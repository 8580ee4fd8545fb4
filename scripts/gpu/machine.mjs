import { spawnSync } from "node:child_process";
import { cpus } from "node:os";

/** The card, its driver and clocks, and the tools; `architecture` is the one to compile for. */
export function describeMachine(device) {
  const nvcc = output("nvcc", ["--version"])?.match(/release ([\d.]+)/)?.[1];
  const machine = { device, cpu: cpus()[0]?.model.trim(), node: process.version, nvcc: nvcc ?? "none" };
  if (device !== "cuda") return machine;
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
  const found = output("nvidia-smi", [`--query-gpu=${fields.join(",")}`, "--format=csv,noheader", "--id=0"]);
  if (found === undefined) return { ...machine, card: "nvidia-smi was not found" };
  const card = Object.fromEntries(found.split(",").map((value, index) => [fields[index], value.trim()]));
  const capability = card.compute_cap.replace(".", "");
  // Hopper-specific instructions need 90a.
  return { ...machine, ...card, architecture: `${capability}${capability === "90" ? "a" : ""}-real` };
}

function output(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}
