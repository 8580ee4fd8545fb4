import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { packageRoot } from "#lib/core/package_root.js";
import { missingFlags, readCpuInfo } from "./cpu_flags.js";
import type { Command } from "./peers.js";

/** What the program is compiled for. Every CPU with AMX has the rest. */
const march = "sapphirerapids";
const neededFlags = ["amx_tile", "amx_bf16", "amx_int8", "avx512_bf16"];

const remedy = "needs oneDNN 3.7 or later with its ukernel API (Debian: apt-get install libdnnl-dev)";

export interface OnednnSetup {
  readonly compiler: string;
  readonly sources: string;
  /** Where to put the program. */
  readonly program: string;
  /** What Linux says of this CPU; undefined elsewhere. */
  readonly cpuInfo: string | undefined;
}

function defaultSetup(): OnednnSetup {
  return {
    compiler: process.env.CXX ?? "g++",
    sources: join(packageRoot(), "bench", "peers", "programs", "onednn"),
    program: join(packageRoot(), "build", "peers", "onednn_peer"),
    cpuInfo: readCpuInfo(),
  };
}

/** Compiles the loop over oneDNN's ukernels if need be. Returns its command, or why this machine cannot run it. */
export function onednnCommand(setup: OnednnSetup = defaultSetup()): Command | string {
  const missing = missingFlags(neededFlags, setup.cpuInfo ?? "");
  if (missing.length > 0) return `it needs Linux on a CPU with AMX; there is no ${missing.join(", ")}`;
  const failure = compile(setup);
  if (failure !== undefined) return failure;
  const { status, signal, stderr } = spawnSync(setup.program, ["--check"], { encoding: "utf8" });
  return status === 0 ? [setup.program] : `its check failed: ${stderr.trim() || (signal ?? `exit code ${status}`)}`;
}

/** Makes the program again if a source is newer. Returns why that failed, if it did. */
function compile({ compiler, sources, program }: OnednnSetup): string | undefined {
  const newest = Math.max(...readdirSync(sources).map((name) => statSync(join(sources, name)).mtimeMs));
  if (existsSync(program) && statSync(program).mtimeMs > newest) return undefined;
  mkdirSync(dirname(program), { recursive: true });
  const { status, error, stderr } = spawnSync(
    compiler,
    ["-std=c++20", "-O3", `-march=${march}`, join(sources, "onednn_peer.cc"), "-o", program, "-ldnnl", "-pthread"],
    { encoding: "utf8" },
  );
  if (error !== undefined) return `its compiler cannot be started (${error.message}): install g++ or set CXX`;
  if (status === 0) return undefined;
  const lines = stderr.split("\n");
  return `it ${remedy}; compiling it failed: ${lines.find((line) => /error|cannot find/.test(line)) ?? lines[0]}`;
}
