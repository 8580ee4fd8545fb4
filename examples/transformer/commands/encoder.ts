import { deviceHelp, deviceOptions, openGivenDevice, runCommand } from "../../common/command.js";
import { Transformer } from "../model/transformer.js";
import { DrawnWeights } from "../model/weights.js";
import { Corpus, shippedText } from "../training/corpus.js";
import { maskBytes, maskId } from "../training/masked_bytes.js";
import { bits, type History, runCharts, writeReport } from "../training/report.js";
import { describeTimes, runTraining } from "../training/run.js";
import { type Batch, Trainer } from "../training/trainer.js";
import { givenModel, modelHelp, modelOptions } from "./model_options.js";

const help = `Usage: npm run example:encoder -- [options]

Trains an encoder with mixtures of experts to tell hidden bytes of a text from those on both sides.

  --steps N              (300)
  --sequences N          sequences of a step (8)
  --learning-rate X      the highest (0.003)
  --seed N               draws weights, batches, what is hidden, and noise (1)
  --dense                without mixtures
  --text FILE            another text, Brotli if it ends with .br
  --validate-every N     (100)
  --report FILE          write curves as a web page
${modelHelp}${deviceHelp}  --help                 show this help
`;

/** The share of the most frequent target: what a model without a context gets right. */
function mostFrequent(batches: readonly Batch[]): number {
  const counts = new Map<number, number>();
  for (const { targets } of batches) {
    for (const target of targets) if (target >= 0) counts.set(target, (counts.get(target) ?? 0) + 1);
  }
  const all = [...counts.values()];
  return Math.max(...all) / all.reduce((sum, count) => sum + count, 0);
}

await runCommand({
  name: "example:encoder",
  help,
  options: {
    ...modelOptions,
    ...deviceOptions,
    steps: "300",
    sequences: "8",
    "learning-rate": "0.003",
    seed: "1",
    text: undefined,
    "validate-every": "100",
    report: undefined,
  },
  flags: ["dense"],
  async run(values) {
    const report = values.output("report");
    const [steps, sequences, seed] = [values.integer("steps"), values.integer("sequences"), values.integer("seed", 0)];
    const config = givenModel(values, { vocabulary: maskId + 1, causal: false, norm: "layer" });
    const { context } = config;
    const corpus = await Corpus.read(values.text("text") ?? shippedText);
    await using device = openGivenDevice(values);
    using model = new Transformer(config, new DrawnWeights(device, seed));
    using trainer = new Trainer(model, {
      batch: (step) => maskBytes(corpus.draw(device, seed, step, sequences, context), device, seed + 1, step),
      steps,
      learningRate: values.number("learning-rate"),
      seed,
    });
    const validation = corpus.validationBatches(context).map((batch, step) => maskBytes(batch, device, 0, step));
    const history: History = { steps: [], validation: [] };
    const validateEvery = values.integer("validate-every");
    const times = await runTraining(trainer, { steps, until: steps, validation, validateEvery, history });
    const { loss, accuracy } = trainer.validate(validation);
    const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
    const facts = [
      `an encoder of ${(model.size / 1e6).toFixed(2)} million weights after ${steps} steps of ${sequences} sequences of ${context} bytes`,
      `hidden bytes of the text for validation: ${percent(accuracy)} right, ${bits(loss).toFixed(3)} bits each ` +
        `(the most frequent byte is ${percent(mostFrequent(validation))})`,
      describeTimes(times),
    ];
    for (const fact of facts) console.log(fact);
    if (report === undefined) return;
    await writeReport(report, {
      title: "An encoder with mixtures of experts",
      facts,
      charts: runCharts(model, history),
    });
  },
});
