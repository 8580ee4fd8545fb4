import { styleText } from "node:util";

/** A stream that text is written to: process.stdout, or whatever a caller puts in its place. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

/** Whether colours are wanted: on a terminal, as NO_COLOR and the like have it. */
export function usesColor(output: Output): boolean {
  return styleText("red", "x", { stream: output }) !== "x";
}

/** Columns of the terminal, or of a page where the output is no terminal. */
export function columnsOf(output: Output): number {
  return output.columns ?? 100;
}
