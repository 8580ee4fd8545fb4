import CliTable from "cli-table3";
import { printable } from "../core/text/printable.js";

/** A column: its heading and the alignment of its cells. */
export interface Column {
  readonly heading: string;
  readonly align?: "left" | "right";
}

/** A table for the terminal, with a line under the headings but none between rows. Cells may be text from files. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const none = ["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left", "bottom-right"];
  const table = new CliTable({
    head: columns.map(({ heading }) => heading),
    colAligns: columns.map(({ align }) => align ?? "left"),
    chars: {
      ...Object.fromEntries([...none, "left", "left-mid", "right", "right-mid"].map((name) => [name, ""])),
      mid: "─",
      "mid-mid": "──",
      middle: "  ",
    },
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0, compact: true },
  });
  table.push(...rows.map((row) => row.map(printable)));
  return table
    .toString()
    .split("\n")
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}
