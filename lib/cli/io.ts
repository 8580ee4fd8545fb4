import { styleText } from "node:util";

/** A stream that text is written to: process.stdout, or whatever a caller of the command line puts in its place. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

/** Where a command writes: results to `stdout`, progress and errors to `stderr`. */
export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
}

/** Writes JSON for programs; numbers that JSON lacks, such as Infinity, become strings. */
export function writeJson(output: Output, value: unknown): void {
  const replace = (_key: string, entry: unknown): unknown =>
    typeof entry === "number" && !Number.isFinite(entry) ? String(entry) : entry;
  output.write(`${JSON.stringify(value, replace, 2)}\n`);
}

/** Whether colours are wanted: on a terminal, as NO_COLOR and the like have it. */
export function usesColor(output: Output): boolean {
  return styleText("red", "x", { stream: output }) !== "x";
}

/** Columns of the terminal, or of a page where the output is no terminal. */
export function columnsOf(output: Output): number {
  return output.columns ?? 100;
}
