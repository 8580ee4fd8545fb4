import { deviceHelp, deviceOptions, openGivenDevice, runCommand, UsageError } from "../../common/command.js";
import { sample } from "../../common/sample.js";
import { givenNumbers, givenTemperature } from "../../common/sampling.js";
import { Generator } from "../generation/generator.js";
import { Checkpoint } from "../training/checkpoint.js";

const help = `Usage: npm run example:generate -- --checkpoint FILE [options]

Continues a text with a decoder that example:train or example:instruct has saved.

  --checkpoint FILE      the model
  --prompt TEXT          what to continue ("In the beginning ")
  --bytes N              how many bytes to generate (400)
  --temperature X        0 takes the most likely byte every time (0.7)
  --seed N               (1)
${deviceHelp}  --help                 show this help
`;

await runCommand({
  name: "example:generate",
  help,
  options: {
    ...deviceOptions,
    checkpoint: undefined,
    prompt: "In the beginning ",
    bytes: "400",
    temperature: "0.7",
    seed: "1",
  },
  flags: [],
  async run(values) {
    const path = values.needed("checkpoint", "a file that example:train --checkpoint has written");
    const prompt = new TextEncoder().encode(values.text("prompt"));
    if (prompt.length === 0) throw new UsageError("--prompt: expected at least one byte, got none");
    const [count, temperature] = [values.integer("bytes"), givenTemperature(values)];
    const checkpoint = await Checkpoint.read(path);
    await using device = openGivenDevice(values);
    using model = checkpoint.model(device);
    using generator = new Generator(model);
    const numbers = await givenNumbers(values, device, count);
    let logits: Float32Array = new Float32Array();
    for (const id of prompt) logits = generator.next(id);
    process.stdout.write(prompt);
    const begin = performance.now();
    for (const number of numbers) {
      const id = sample(logits, temperature, number);
      process.stdout.write(Uint8Array.of(id));
      logits = generator.next(id);
    }
    const seconds = (performance.now() - begin) / 1000;
    console.log(`\n\n${count} bytes in ${seconds.toFixed(2)} s: ${(count / seconds).toFixed(0)} tokens per second`);
  },
});
