import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { packageRoot } from "../../lib/core/addon/package_root.js";

/** Runs a script of this repository with Node and waits for its end. */
export function runScript(
  path: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [path, ...args], {
    cwd: packageRoot(),
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    env: { ...process.env, ...env },
  });
}
