import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Device } from "moe-kernels";
import {
  deviceHelp,
  deviceOptions,
  openGivenDevice,
  runCommand,
  UsageError,
  type Values,
} from "../../common/command.js";
import { sample } from "../../common/sample.js";
import { Engine } from "../generation/engine.js";
import { LanguageModel } from "../model/language_model.js";
import { givenFormats, tokenFormatHelp } from "./format_options.js";
import { writeRandomModel } from "./random_model.js";

const help = `Usage: npm run example:language-model-throughput -- [options]

Measures how many tokens a second a model generates for several sequences together, after their prompts. Rounds take the
numbers of sequences in turn; the table has the medians of the rounds, and their quartiles.

  --model PATH           a directory or GGUF file (a model with random weights, of --shape)
  --shape H,I,E,K        hidden size, intermediate size, experts, experts of a token (2048,768,64,8)
  --layers N             (4)
  --vocabulary N         (32768)
  --dtype FORMAT         format of the experts (int4_g32)
${tokenFormatHelp}  --sequences NUMBERS    (1,2,4,8,16)
  --prompt N             tokens of each prompt (16)
  --tokens N             tokens that are timed, of each sequence (32)
  --rounds N             (7)
${deviceHelp}  --help                 show this help
`;

await runCommand({
  name: "example:language-model-throughput",
  help,
  options: {
    ...deviceOptions,
    model: undefined,
    shape: "2048,768,64,8",
    layers: "4",
    vocabulary: "32768",
    dtype: "int4_g32",
    "token-format": "none",
    sequences: "1,2,4,8,16",
    prompt: "16",
    tokens: "32",
    rounds: "7",
  },
  flags: [],
  async run(values) {
    const counts = integers(values, "sequences");
    const [prompt, tokens, rounds] = [values.integer("prompt"), values.integer("tokens"), values.integer("rounds")];
    await using device = openGivenDevice(values);
    using model = await loadModel(values, device);
    const rates = counts.map((): number[] => []);
    // One more, as JavaScript is compiled in the first.
    for (let round = -1; round < rounds; round++) {
      for (const [i, count] of counts.entries()) {
        const rate = await measure(model, count, prompt, tokens);
        if (round >= 0) rates[i].push(rate);
      }
    }
    console.log("sequences  tokens/s  quartiles       of the first  ms a step");
    const [first] = rates.map((each) => quantile(each, 0.5));
    for (const [i, count] of counts.entries()) {
      const [lower, median, upper] = [0.25, 0.5, 0.75].map((share) => quantile(rates[i], share));
      const columns = [
        String(count).padStart(9),
        median.toFixed(1).padStart(8),
        `${lower.toFixed(1)} to ${upper.toFixed(1)}`.padEnd(14),
        (median / first).toFixed(2).padStart(12),
        ((1000 * count) / median).toFixed(1).padStart(9),
      ];
      console.log(columns.join("  "));
    }
  },
});

async function loadModel(values: Values, device: Device): Promise<LanguageModel> {
  const formats = givenFormats(values);
  const given = values.text("model");
  if (given !== undefined) return await LanguageModel.load(device, given, formats);
  const shape = integers(values, "shape");
  if (shape.length !== 4) throw new UsageError(`--shape: expected four sizes H,I,E,K, got ${shape.length}`);
  const [hiddenSize, intermediateSize, experts, topK] = shape;
  const sizes = { hiddenSize, intermediateSize, experts, topK };
  const directory = await mkdtemp(join(tmpdir(), "moe-kernels-throughput-"));
  try {
    const more = { layers: values.integer("layers"), vocabulary: values.integer("vocabulary") };
    await writeRandomModel(directory, device, { ...sizes, ...more });
    return await LanguageModel.load(device, directory, formats);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The tokens a second of `count` sequences, from when each has its first token on. */
async function measure(model: LanguageModel, count: number, prompt: number, tokens: number): Promise<number> {
  await using engine = new Engine(model, { running: count, waiting: 0 });
  const drawn = () => Math.floor(Math.random() * model.config.vocabulary);
  let [began, waiting] = [0, count];
  const sequence = async () => {
    let [first, timed] = [true, 0];
    await engine.continue({
      prompt: Array.from({ length: prompt }, drawn),
      next(logits) {
        if (waiting === 0) timed++;
        else if (first && --waiting === 0) began = performance.now();
        first = false;
        return timed < tokens ? sample(logits, 1, Math.random()) : undefined;
      },
    });
  };
  await Promise.all(Array.from({ length: count }, sequence));
  return (1000 * count * tokens) / (performance.now() - began);
}

function integers(values: Values, name: string): number[] {
  const numbers = (values.text(name) ?? "").split(",").map(Number);
  if (numbers.every((number) => Number.isSafeInteger(number) && number > 0)) return numbers;
  throw new UsageError(`--${name}: expected integers above 0 with commas between them, got "${values.text(name)}"`);
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.round(share * (sorted.length - 1))];
}
