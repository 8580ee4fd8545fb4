import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

/** Runs a module of the documentation in a folder of the package. */
export function runProgram(folder: string, file: string, program: string) {
  // Node 20 cannot parse `await using`.
  const { outputText } = ts.transpileModule(program, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  });
  writeFileSync(join(folder, file), outputText);
  return spawnSync(process.execPath, [file], { cwd: folder, encoding: "utf8" });
}
