import { openGivenDevice, runCommand, UsageError } from "../../common/command.js";
import { givenNumbers, givenTemperature, givenTopP } from "../../common/sampling.js";
import { readConfig } from "../config/read.js";
import { Answer } from "../generation/answer.js";
import { Engine } from "../generation/engine.js";
import { givenPath, loadGivenModel, modelHelp, modelOptions, readGivenTokenizer } from "./model_options.js";

const help = `Usage: npm run example:language-model -- --model PATH [options]

Continues a text with a model of mixtures of experts from Hugging Face: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, gpt-oss,
GLM-4.5, Granite, DeepSeek-V2 and V3, Kimi K2.

  --prompt TEXT          what to continue ("The capital of France is")
  --chat                 the prompt is what a user says to the model
  --tokens N             how many tokens to generate at most (100, or what the model has room for)
  --temperature X        0 takes the most likely token every time (0.7)
  --top-p X              draws only the most likely tokens, which have this share together (1)
  --seed N               (1)
${modelHelp}  --help                 show this help
`;

await runCommand({
  name: "example:language-model",
  help,
  options: {
    ...modelOptions,
    prompt: "The capital of France is",
    tokens: undefined,
    temperature: "0.7",
    "top-p": "1",
    seed: "1",
  },
  flags: ["chat"],
  async run(values) {
    const tokenizer = await readGivenTokenizer(values);
    const sampling = { temperature: givenTemperature(values), topP: givenTopP(values) };
    const content = values.text("prompt") ?? "";
    const prompt = values.flag("chat") ? tokenizer.encodeChat([{ role: "user", content }]) : tokenizer.encode(content);
    if (prompt.length === 0) throw new UsageError("--prompt: expected at least one token, got none");
    const { context = Infinity } = await readConfig(givenPath(values));
    const room = context - prompt.length;
    if (room < 1) {
      throw new UsageError(
        `--prompt: expected fewer tokens than the ${context} of a text of this model, got ${prompt.length}`,
      );
    }
    const count = values.given("tokens") ? values.integer("tokens") : Math.min(100, room);
    if (count > room) {
      const expected = `at most ${room}, as a text of this model has ${context} and the prompt ${prompt.length}`;
      throw new UsageError(`--tokens: expected ${expected}, got ${count}`);
    }

    await using device = openGivenDevice(values);
    using model = await loadGivenModel(values, device);
    const numbers = await givenNumbers(values, device, count);
    const answer = new Answer(tokenizer, { ...sampling, numbers, onText: (text) => process.stdout.write(text) });
    // When each token came.
    const times = [performance.now()];
    await new Engine(model, { running: 1, waiting: 0 }).continue({
      prompt,
      next(logits) {
        times.push(performance.now());
        return answer.next(logits);
      },
    });
    const [began, first, last] = [times[0], times[1], times[times.length - 1]];
    // The prompt's forward gives the first token.
    console.log(`\n\nprompt: ${rate(prompt.length, first - began)}; then ${rate(times.length - 2, last - first)}`);
  },
});

function rate(tokens: number, milliseconds: number): string {
  const time = `${tokens} tokens in ${(milliseconds / 1000).toFixed(2)} s`;
  return tokens === 0 ? time : `${time}, ${((1000 * tokens) / milliseconds).toFixed(1)} per second`;
}
