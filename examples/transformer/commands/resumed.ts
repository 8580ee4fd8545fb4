import { UsageError, type Values } from "../../common/command.js";
import type { CheckpointRecord } from "../training/checkpoint.js";
import type { TrainRun } from "./train.js";

const ofMixtures = ["experts", "top-k", "balance"];

/** The options that a checkpoint keeps, as its run was given them. */
function keptOptions({ model, run }: CheckpointRecord<TrainRun>): Record<string, string | number | undefined> {
  const { mixture } = model;
  return {
    hidden: model.hiddenSize,
    layers: model.layers,
    heads: model.heads,
    intermediate: model.intermediateSize,
    context: model.context,
    experts: mixture?.experts,
    "top-k": mixture?.topK,
    balance: mixture?.balance,
    steps: run.steps,
    sequences: run.sequences,
    "learning-rate": run.learningRate,
    seed: run.seed,
    "validate-every": run.validateEvery,
    text: run.text,
  };
}

/** Refuses options that say something else than the checkpoint that --resume names. */
export function checkResumed(values: Values, record: CheckpointRecord<TrainRun>): void {
  const file = values.text("resume");
  const wrong = Object.entries(keptOptions(record)).flatMap(([name, kept]) => {
    // With --dense, options of mixtures had no effect when the run began.
    if (!values.given(name) || (values.flag("dense") && ofMixtures.includes(name))) return [];
    const given = typeof kept === "number" ? values.number(name) : values.text(name);
    return given === kept ? [] : [`--${name}: expected ${kept ?? "none"} as in ${file}, got ${given}`];
  });
  if (values.flag("dense") && record.model.mixture) {
    wrong.push(`--dense: expected a mixture of experts as in ${file}, got a dense model`);
  }
  if (wrong.length === 0) return;
  throw new UsageError(`${wrong.join("; ")}; leave out what the checkpoint keeps, or begin anew without --resume`);
}
