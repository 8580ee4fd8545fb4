import { existsSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "#lib/core/addon/package_root.js";
import { type CompiledProgram, compiledCommand, compiledProgram } from "./compiled.js";
import type { Command } from "./peers.js";

/** The package with the libraries that node-llama-cpp loads here. */
const packageName = "@node-llama-cpp/linux-x64";

export interface LlamaCppSetup extends CompiledProgram {
  /** Such as `linux-x64`. */
  readonly platform: string;
  /** The folder of llama.cpp's libraries. */
  readonly libraries: string;
}

function defaultSetup(): LlamaCppSetup {
  return {
    ...compiledProgram("llama_cpp"),
    platform: `${process.platform}-${process.arch}`,
    libraries: join(...[packageRoot(), "bench", "peers", "programs", "node_modules", packageName, "bins", "linux-x64"]),
  };
}

/** Compiles the program that calls llama.cpp's libraries if need be. Returns its command, or why it cannot run here. */
export function llamaCppCommand(setup: LlamaCppSetup = defaultSetup()): Command | string {
  const { platform, libraries } = setup;
  if (platform !== "linux-x64") return `${packageName} is for Linux with glibc on x64, this is ${platform}`;
  if (!existsSync(libraries)) return `run node scripts/setup.mjs --peers, which installs ${packageName}`;
  return compiledCommand(setup, { options: ["-ldl"], args: [libraries] });
}
