import { deviceHelp, deviceOptions, openGivenDevice, runCommand } from "../../common/command.js";
import type { Transformer } from "../model/transformer.js";
import { Checkpoint, saveCheckpoint } from "../training/checkpoint.js";
import { Corpus, shippedText } from "../training/corpus.js";
import { type Instruction, Instructions, instructionBatch, rightAnswers, taskNames } from "../training/instructions.js";
import type { History } from "../training/report.js";
import { describeTimes, runTraining } from "../training/run.js";
import { predictions, Trainer } from "../training/trainer.js";

const help = `Usage: npm run example:instruct -- --checkpoint FILE [options]

Tunes a decoder that example:train has saved on generated instructions, such as "reverse lord:drol", and tells how many it
answers before and after, about words that it was not tuned on.

  --checkpoint FILE      the model
  --save FILE            where to save the tuned model
  --steps N              (300)
  --sequences N          instructions of a step (32)
  --learning-rate X      the highest (0.002)
  --seed N               draws instructions and noise (1)
  --freeze-router        leave the routers as they are
  --held-out N           instructions of each task to ask (100)
${deviceHelp}  --help                 show this help
`;

/** The share of right answers to instructions of each task, and of all. */
function accuracy(model: Transformer, asked: readonly Instruction[]): Map<string, number> {
  const right: boolean[] = [];
  for (let first = 0; first < asked.length; first += 64) {
    const batch = instructionBatch(asked.slice(first, first + 64));
    using logits = model.forward(batch);
    right.push(...rightAnswers(batch, predictions(logits)));
  }
  const share = (of: (instruction: Instruction) => boolean) => {
    const answers = right.filter((_, index) => of(asked[index]));
    return answers.filter(Boolean).length / answers.length;
  };
  return new Map([
    ...taskNames.map((name) => [name, share(({ task }) => task === name)] as const),
    ["all", share(() => true)],
  ]);
}

await runCommand({
  name: "example:instruct",
  help,
  options: {
    ...deviceOptions,
    checkpoint: undefined,
    save: undefined,
    steps: "300",
    sequences: "32",
    "learning-rate": "0.002",
    seed: "1",
    "held-out": "100",
  },
  flags: ["freeze-router"],
  async run(values) {
    const saved = values.output("save");
    const checkpoint = await Checkpoint.read(values.needed("checkpoint", "a file that example:train has written"));
    const corpus = await Corpus.read(shippedText);
    const instructions = new Instructions(corpus.training);
    const [steps, sequences, seed] = [values.integer("steps"), values.integer("sequences"), values.integer("seed", 0)];
    const frozen = values.flag("freeze-router");
    await using device = openGivenDevice(values);
    using model = checkpoint.model(device);
    using trainer = new Trainer(model, {
      batch: (step) => instructionBatch(instructions.draw(device, seed, step, sequences)),
      steps,
      learningRate: values.number("learning-rate"),
      seed,
      frozen: (name) => frozen && /\.(router|noiseRouter)$/.test(name),
    });
    const asked = instructions.heldOut(values.integer("held-out"));
    const before = accuracy(model, asked);
    const history: History = { steps: [], validation: [] };
    const validation = [instructionBatch(asked)];
    const times = await runTraining(trainer, { steps, until: steps, validation, validateEvery: steps, history });
    const after = accuracy(model, asked);
    const percent = (share: number | undefined) => `${(100 * (share ?? 0)).toFixed(0)} %`.padStart(6);
    console.log(
      `${asked.length} held-out instructions, routers ${frozen ? "frozen" : "tuned"}: before, after ${steps} steps`,
    );
    for (const [task, share] of before) console.log(`${task.padEnd(8)}${percent(share)} ${percent(after.get(task))}`);
    console.log(describeTimes(times));
    if (saved !== undefined) await saveCheckpoint(saved, trainer, undefined);
  },
});
