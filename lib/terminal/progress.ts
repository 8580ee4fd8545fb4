import { SingleBar } from "cli-progress";
import { printable } from "../core/text/printable.js";
import type { Output } from "./output.js";

/** A progress display for one piece of work. */
export interface Progress {
  /** Reports that `done` of the total is done. */
  update(done: number): void;
  /** Ends the display; the work is done or has failed. */
  stop(): void;
}

/** Shows progress: a bar on a terminal, otherwise one line at the start. */
export function startProgress(output: Output, text: string, total: number): Progress {
  const title = printable(text);
  if (!output.isTTY) {
    output.write(`${title} ...\n`);
    return { update() {}, stop() {} };
  }
  const bar = new SingleBar({
    stream: output,
    format: `${title} {bar} {percentage}%  {duration_formatted}`,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 30,
    clearOnComplete: true,
    linewrap: true, // the bar is cut; otherwise the terminal would stop wrapping lines, also after Ctrl-C
  });
  bar.start(total, 0);
  return { update: (done) => bar.update(done), stop: () => bar.stop() };
}

/** Shows the progress of `work`, which reports how much of the total is done. */
export async function withProgress<T>(
  output: Output,
  text: string,
  total: number,
  work: (update: Progress["update"]) => Promise<T>,
): Promise<T> {
  const progress = startProgress(output, text, total);
  try {
    return await work(progress.update);
  } finally {
    progress.stop();
  }
}
