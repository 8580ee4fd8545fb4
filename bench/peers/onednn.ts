import { type CompiledProgram, compiledCommand, compiledProgram } from "./compiled.js";
import { missingFlags, readCpuInfo } from "./cpu_flags.js";
import type { Command } from "./peers.js";

/** What the program is compiled for. Every CPU with AMX has the rest. */
const march = "sapphirerapids";
const neededFlags = ["amx_tile", "amx_bf16", "amx_int8", "avx512_bf16"];

export interface OnednnSetup extends CompiledProgram {
  /** What Linux says of this CPU; undefined elsewhere. */
  readonly cpuInfo: string | undefined;
}

function defaultSetup(): OnednnSetup {
  return { ...compiledProgram("onednn"), cpuInfo: readCpuInfo() };
}

/** Compiles the loop over oneDNN's ukernels if need be. Returns its command, or why this machine cannot run it. */
export function onednnCommand(setup: OnednnSetup = defaultSetup()): Command | string {
  const missing = missingFlags(neededFlags, setup.cpuInfo ?? "");
  if (missing.length > 0) return `it needs Linux on a CPU with AMX; there is no ${missing.join(", ")}`;
  return compiledCommand(setup, {
    options: [`-march=${march}`, "-ldnnl", "-pthread"],
    needs: "oneDNN 3.7 or later with its ukernel API (Debian: apt-get install libdnnl-dev)",
  });
}
