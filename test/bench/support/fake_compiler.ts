import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CompiledProgram } from "../../../bench/peers/compiled.js";

/** A program in a folder of its own, whose compiler runs this shell script; `$5` is the output. */
export function fakeProgram(folder: string, script: string): CompiledProgram {
  const compiler = join(folder, "compiler");
  writeFileSync(compiler, `#!/bin/sh\n${script}`);
  chmodSync(compiler, 0o755);
  writeFileSync(join(folder, "main.cc"), "");
  return { compiler, folders: [folder], main: "main.cc", program: join(folder, "build", "program") };
}

/** Writes a program whose --check runs `check`, and a line to a log. */
export function compiling(check: string): string {
  return `echo "$@" >> "$(dirname "$5")/log"\nprintf '#!/bin/sh\\n%s\\n' '${check}' > "$5"\nchmod +x "$5"\n`;
}

/** The arguments of the compiler's runs. */
export function compilations(folder: string): string[] {
  return readFileSync(join(folder, "build", "log"), "utf8")
    .trimEnd()
    .split("\n");
}
