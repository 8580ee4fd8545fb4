import { styleText } from "node:util";

/** A stream for text: process.stdout or a replacement for it. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

/** Whether to use colours: on a terminal, unless NO_COLOR and similar variables say otherwise. */
export function usesColor(output: Output): boolean {
  return styleText("red", "x", { stream: output }) !== "x";
}

/** Columns of the terminal; a default width if the output is not a terminal. */
export function columnsOf(output: Output): number {
  return output.columns ?? 100;
}
