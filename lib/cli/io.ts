import { printable } from "../core/printable.js";
import type { Output } from "../terminal/output.js";

/** Where a command writes: results to `stdout`, progress and errors to `stderr`. */
export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
}

/** Writes JSON for programs; numbers that JSON lacks, such as Infinity, become strings. */
export function writeJson(output: Output, value: unknown): void {
  const replace = (_key: string, entry: unknown): unknown =>
    typeof entry === "number" && !Number.isFinite(entry) ? String(entry) : entry;
  const lines = JSON.stringify(value, replace, 2).split("\n");
  output.write(`${lines.map(printable).join("\n")}\n`);
}
