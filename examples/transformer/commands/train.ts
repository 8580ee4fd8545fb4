import { writeFile } from "node:fs/promises";
import type { Device } from "moe-kernels";
import {
  deviceHelp,
  deviceOptions,
  openGivenDevice,
  runCommand,
  UsageError,
  type Values,
} from "../../common/command.js";
import { denseTwin, type ModelConfig, multiplyAdds } from "../model/config.js";
import { Transformer } from "../model/transformer.js";
import { DrawnWeights } from "../model/weights.js";
import { Checkpoint, saveCheckpoint } from "../training/checkpoint.js";
import { compare } from "../training/comparison.js";
import { Corpus, shippedText } from "../training/corpus.js";
import { bits, type History, runCharts, writeReport } from "../training/report.js";
import { describeTimes, runTraining } from "../training/run.js";
import { Trainer } from "../training/trainer.js";
import { givenModel, modelHelp, modelOptions } from "./model_options.js";
import { checkResumed } from "./resumed.js";

const help = `Usage: npm run example:train -- [options]

Trains a byte-level Transformer with mixtures of experts on the text of the King James Bible, or another.

  --steps N              (1000)
  --sequences N          sequences of a step (8)
  --learning-rate X      the highest (0.003)
  --seed N               draws weights, batches and noise (1)
  --dense                without mixtures: dense layers with as many operations for each token
  --compare              train the model and its dense twin with each of --seeds, one after another
  --seeds LIST           (1,2,3)
  --text FILE            another text, Brotli if it ends with .br
  --checkpoint FILE      where to save what is needed to go on
  --save-every N         steps between saves (only at the end)
  --resume FILE          go on from a checkpoint, with its options; other values of these are refused
  --until N              stop after this step, to go on later
  --validate-every N     (100)
  --report FILE          write curves as a web page
  --chart FILE           write the comparison's plot as SVG
${modelHelp}${deviceHelp}  --help                 show this help
`;

/** What a checkpoint keeps besides the model. */
export interface TrainRun {
  readonly steps: number;
  readonly sequences: number;
  readonly learningRate: number;
  readonly seed: number;
  readonly validateEvery: number;
  readonly text: string | undefined;
  readonly history: History;
}

function newRun(values: Values): TrainRun {
  return {
    steps: values.integer("steps"),
    sequences: values.integer("sequences"),
    learningRate: values.number("learning-rate"),
    seed: values.integer("seed", 0),
    validateEvery: values.integer("validate-every"),
    text: values.text("text"),
    history: { steps: [], validation: [] },
  };
}

function describeModel(config: ModelConfig, size: number): string {
  const { mixture, layers, hiddenSize } = config;
  const kind = mixture ? `${mixture.experts} experts, ${mixture.topK} for each token, ${mixture.balance}` : "dense";
  const millions = (count: number) => `${(count / 1e6).toFixed(2)} million`;
  return `${layers} layers of ${hiddenSize}, ${kind}: ${millions(size)} weights, ${millions(multiplyAdds(config))} multiply-adds a token`;
}

/** Refuses options that would have no effect. */
function refuse(values: Values, names: readonly string[], reason: string): void {
  for (const name of names) if (values.given(name)) throw new UsageError(`--${name}: ${reason}`);
}

async function train(values: Values, device: Device): Promise<void> {
  refuse(values, ["seeds", "chart"], "expected with --compare only");
  const [saved, report] = [values.output("checkpoint"), values.output("report")];
  const path = values.text("resume");
  const checkpoint = path === undefined ? undefined : await Checkpoint.read<TrainRun>(path);
  if (checkpoint) checkResumed(values, checkpoint.record);
  const run = checkpoint?.record.run ?? newRun(values);
  const { steps, sequences, learningRate, seed, validateEvery, text, history } = run;
  const config = checkpoint?.record.model ?? givenModel(values, { vocabulary: 256, causal: true, norm: "rms" });
  const corpus = await Corpus.read(text ?? shippedText);
  using model = checkpoint?.model(device) ?? new Transformer(config, new DrawnWeights(device, seed));
  const { context } = config;
  using trainer = new Trainer(model, {
    batch: (step) => corpus.draw(device, seed, step, sequences, context),
    steps,
    learningRate,
    seed,
  });
  checkpoint?.resume(trainer);
  const until = values.text("until") === undefined ? steps : values.integer("until");
  if (until > steps) throw new UsageError(`--until: expected at most the ${steps} steps, got ${until}`);
  console.log(`${device.description}\n${describeModel(config, model.size)}`);
  const times = await runTraining(trainer, {
    steps,
    until,
    validation: corpus.validationBatches(context),
    validateEvery,
    history,
    ...(saved !== undefined && { save: () => saveCheckpoint(saved, trainer, run) }),
    ...(values.text("save-every") !== undefined && { saveEvery: values.integer("save-every") }),
  });
  const last = history.validation.at(-1);
  const facts = [
    describeModel(config, model.size),
    `${trainer.done} of ${steps} steps of ${sequences} sequences of ${context} bytes, seed ${seed}`,
    ...(last ? [`validation after ${last.step} steps: ${bits(last.loss).toFixed(4)} bits per byte`] : []),
    describeTimes(times),
  ];
  for (const fact of facts.slice(1)) console.log(fact);
  if (report === undefined) return;
  await writeReport(report, {
    title: "A Transformer with mixtures of experts",
    facts,
    charts: runCharts(model, history),
  });
}

async function compareModels(values: Values, device: Device): Promise<void> {
  const ofOneRun = ["seed", "checkpoint", "save-every", "resume", "until"];
  refuse(values, ofOneRun, "cannot be combined with --compare");
  const [report, chart] = [values.output("report"), values.output("chart")];
  const run = newRun(values);
  const seeds = (values.text("seeds") ?? "").split(",").map(Number);
  if (!seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0)) {
    throw new UsageError(`--seeds: expected integers such as 1,2,3, got "${values.text("seeds")}"`);
  }
  if (values.flag("dense")) throw new UsageError("--compare: expected a model with mixtures, got --dense");
  const config = givenModel(values, { vocabulary: 256, causal: true, norm: "rms" });
  const corpus = await Corpus.read(run.text ?? shippedText);
  const { facts, charts } = await compare({
    device,
    corpus,
    models: { mixture: config, dense: denseTwin(config) },
    describe: describeModel,
    seeds,
    run,
  });
  if (report !== undefined) await writeReport(report, { title: "Mixtures of experts and dense layers", facts, charts });
  if (chart !== undefined) await writeFile(chart, charts[0]);
}

await runCommand({
  name: "example:train",
  help,
  options: {
    ...modelOptions,
    ...deviceOptions,
    steps: "1000",
    sequences: "8",
    "learning-rate": "0.003",
    seed: "1",
    seeds: "1,2,3",
    text: undefined,
    checkpoint: undefined,
    "save-every": undefined,
    resume: undefined,
    until: undefined,
    "validate-every": "100",
    report: undefined,
    chart: undefined,
  },
  flags: ["dense", "compare"],
  async run(values) {
    await using device = openGivenDevice(values);
    await (values.flag("compare") ? compareModels : train)(values, device);
  },
});
