import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Runs a module of the documentation in a folder of the package. */
export function runProgram(folder: string, file: string, program: string, ...args: string[]) {
  writeFileSync(join(folder, file), program);
  return spawnSync(process.execPath, [file, ...args], { cwd: folder, encoding: "utf8" });
}
