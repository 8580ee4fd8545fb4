import type { WeightFormatName } from "moe-kernels";
import { deviceHelp, deviceOptions, openGivenDevice, runCommand, UsageError } from "../../common/command.js";
import { sample } from "../../common/sample.js";
import { givenNumbers, givenTemperature } from "../../common/sampling.js";
import { LanguageModel } from "../model/language_model.js";
import { readGgufTokenizer } from "../text/gguf_tokenizer.js";
import { readTokenizerFiles, TextTokenizer } from "../text/tokenizer.js";

const help = `Usage: npm run example:language-model -- --model PATH [options]

Continues a text with a model of mixtures of experts from Hugging Face: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, gpt-oss,
GLM-4.5, Granite, DeepSeek-V2 and V3, Kimi K2.

  --model PATH           a directory with config.json, safetensors and tokenizer.json, or a GGUF file
  --tokenizer PATH       a directory with tokenizer.json, or a GGUF file (the model)
  --prompt TEXT          what to continue ("The capital of France is")
  --chat                 the prompt is what a user says to the model
  --tokens N             how many tokens to generate at most (100)
  --temperature X        0 takes the most likely token every time (0.7)
  --seed N               (1)
  --dtype FORMAT         format of the experts, such as int4_g32 (that of the files)
${deviceHelp}  --help                 show this help
`;

await runCommand({
  name: "example:language-model",
  help,
  options: {
    ...deviceOptions,
    model: undefined,
    tokenizer: undefined,
    prompt: "The capital of France is",
    tokens: "100",
    temperature: "0.7",
    seed: "1",
    dtype: undefined,
  },
  flags: ["chat"],
  async run(values) {
    const path = values.needed("model", "the directory of a model, or a GGUF file");
    const [count, temperature] = [values.integer("tokens"), givenTemperature(values)];
    const directory = values.text("tokenizer") ?? path;
    const read = directory.endsWith(".gguf") ? readGgufTokenizer : readTokenizerFiles;
    const tokenizer = new TextTokenizer(await read(directory));
    const text = values.text("prompt") ?? "";
    const prompt = values.flag("chat") ? tokenizer.encodeChat(text) : tokenizer.encode(text);
    if (prompt.length === 0) throw new UsageError("--prompt: expected at least one token, got none");

    await using device = openGivenDevice(values);
    using model = await LanguageModel.load(device, path, {
      dtype: values.text("dtype") as WeightFormatName | undefined,
      onProgress: (loaded, layers) => process.stderr.write(`${loaded} of ${layers} layers\n`),
    });
    const numbers = await givenNumbers(values, device, count);
    const caches = model.caches();
    const began = performance.now();
    let logits = await model.next(prompt, caches);
    const answering = performance.now();
    const ids: number[] = [];
    let written = 0;
    for (const number of numbers) {
      const id = sample(logits, temperature, number);
      if (tokenizer.endIds.has(id)) break;
      ids.push(id);
      const answer = tokenizer.decode(ids);
      process.stdout.write(answer.slice(written));
      written = answer.length;
      logits = await model.next([id], caches);
    }
    const ended = performance.now();
    for (const cache of caches) cache[Symbol.dispose]();
    console.log(
      `\n\nprompt: ${rate(prompt.length, answering - began)}; answer: ${rate(ids.length, ended - answering)}`,
    );
  },
});

function rate(tokens: number, milliseconds: number): string {
  return `${tokens} tokens in ${(milliseconds / 1000).toFixed(2)} s, ${((1000 * tokens) / milliseconds).toFixed(1)} per second`;
}
