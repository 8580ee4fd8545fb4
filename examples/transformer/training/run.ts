import { Progress } from "../../common/progress.js";
import type { Times } from "../model/host.js";
import { bits, type History } from "./report.js";
import type { Batch, Trainer } from "./trainer.js";

export interface RunOptions {
  /** Steps in all, for the display. */
  readonly steps: number;
  /** Stop after this step. */
  readonly until: number;
  readonly validation: readonly Batch[];
  readonly validateEvery: number;
  /** What has happened in this run so far; the steps add to it. */
  readonly history: History;
  /** Called after steps that are multiples of `saveEvery`, and after the last. */
  readonly save?: () => Promise<void>;
  readonly saveEvery?: number;
}

/** Where the time of steps went, as shares, and the mean of a step. */
export interface StepTimes extends Times {
  readonly milliseconds: number;
}

/** Trains until a step, and shows how far it is. */
export async function runTraining(trainer: Trainer, options: RunOptions): Promise<StepTimes> {
  const { steps, until, validation, validateEvery, history, save, saveEvery = until } = options;
  const { times } = trainer.model.host;
  const spent = { kernels: 0, copies: 0, host: 0 };
  const progress = new Progress(until, trainer.done);
  const first = trainer.done;
  let milliseconds = 0;
  while (trainer.done < until) {
    const before = { ...times };
    const begin = performance.now();
    const step = trainer.step();
    milliseconds += performance.now() - begin;
    for (const what of ["kernels", "copies", "host"] as const) spent[what] += times[what] - before[what];
    history.steps.push(step);
    const { done } = trainer;
    if (done % validateEvery === 0 || done === steps)
      history.validation.push({ step: done, ...trainer.validate(validation) });
    const last = history.validation.at(-1);
    const validated = last ? `, validation ${bits(last.loss).toFixed(3)}` : "";
    progress.update(done, `loss ${bits(step.loss).toFixed(3)}${validated} bits`);
    if (save && (done % saveEvery === 0 || done === until)) await save();
    // Lets a signal or a timer of the process have its turn.
    await new Promise(setImmediate);
  }
  const share = (what: keyof Times) => spent[what] / milliseconds;
  const mean = milliseconds / Math.max(1, trainer.done - first);
  return { kernels: share("kernels"), copies: share("copies"), host: share("host"), milliseconds: mean };
}

/** Where time went, in words. */
export function describeTimes({ milliseconds, kernels, copies, host }: StepTimes): string {
  const percent = (share: number) => `${Math.round(100 * share)} %`;
  return (
    `${milliseconds.toFixed(0)} ms a step: waiting for the package's kernels at least ${percent(kernels)}, copies ` +
    `${percent(copies)}, loops over typed arrays ${percent(host)}, enqueuing and the rest ${percent(1 - kernels - copies - host)}`
  );
}
