import { SingleBar } from "cli-progress";
import type { Output } from "./output.js";

/** One piece of work that takes a while. */
export interface Progress {
  /** `done` of the total is done. */
  update(done: number): void;
  /** All is done, or given up. */
  stop(): void;
}

/** Shows how far a piece of work is: a bar on a terminal, elsewhere one line when it begins. */
export function startProgress(output: Output, title: string, total: number): Progress {
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
    linewrap: null, // leave the terminal as it is: Ctrl-C must have nothing to put back
  });
  bar.start(total, 0);
  return { update: (done) => bar.update(done), stop: () => bar.stop() };
}
