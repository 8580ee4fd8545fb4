import { finiteOrText } from "../core/text/finite_json.js";
import { printable } from "../core/text/printable.js";
import type { Output } from "../terminal/output.js";

/** Where a command writes: results to `stdout`, progress and errors to `stderr`. */
export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
}

/** Writes JSON for programs; see {@link finiteOrText}. */
export function writeJson(output: Output, value: unknown): void {
  const lines = JSON.stringify(value, finiteOrText, 2).split("\n");
  output.write(`${lines.map(printable).join("\n")}\n`);
}
