import { basename, resolve } from "node:path";
import { openGivenDevice, runCommand, UsageError } from "../../common/command.js";
import { readConfig } from "../config/read.js";
import { Engine } from "../generation/engine.js";
import { ModelServer } from "../serving/server.js";
import { givenPath, loadGivenModel, modelHelp, modelOptions, readGivenTokenizer } from "./model_options.js";

const help = `Usage: npm run example:language-model-server -- --model PATH [options]

Serves a model as OpenAI's servers do, /v1/completions, /v1/chat/completions and /v1/models, and computes the requests of all
clients together. It knows no keys and no encryption: other machines should reach it only through a proxy that does. SIGINT
or SIGTERM ends it after the requests that it has, a second one at once.

  --port N               0 for any that is free (8080)
  --host NAME            where it listens (127.0.0.1)
  --name NAME            what requests call the model (the last part of its path)
  --running N            how many requests are computed together at most (16)
  --waiting N            how many more may wait (64)
  --context N            how many tokens a prompt and its answer have at most (4096, or what the model has if that is less)
${modelHelp}  --help                 show this help
`;

await runCommand({
  name: "example:language-model-server",
  help,
  options: {
    ...modelOptions,
    port: "8080",
    host: "127.0.0.1",
    name: undefined,
    running: "16",
    waiting: "64",
    context: undefined,
  },
  flags: [],
  async run(values) {
    const [port, host] = [values.integer("port", 0), values.text("host") ?? ""];
    const name = values.text("name") ?? basename(resolve(givenPath(values)), ".gguf");
    const limits = { running: values.integer("running"), waiting: values.integer("waiting", 0) };
    const tokenizer = await readGivenTokenizer(values);
    const { vocabulary, context: longest = Infinity } = await readConfig(givenPath(values));
    const context = values.given("context") ? values.integer("context", 2) : Math.min(4096, longest);
    if (context > longest) {
      throw new UsageError(`--context: expected at most the ${longest} tokens that the model has, got ${context}`);
    }
    await using device = openGivenDevice(values);
    using model = await loadGivenModel(values, device);
    await using engine = new Engine(model, limits);
    const server = new ModelServer({ name, tokenizer, vocabulary, context, engine, device });
    const address = await server.listen(port, host).catch((cause) => {
      const got = `${host} and ${port}: ${cause.message}`;
      throw new UsageError(`--host, --port: expected a free address of this machine, got ${got}`);
    });
    // In a URL, addresses of IPv6 are in brackets.
    console.log(`${name} at http://${host.includes(":") ? `[${host}]` : host}:${address.port}/v1`);
    await ended(server);
  },
});

/** Waits for a signal, and then until the server has ended. */
async function ended(server: ModelServer): Promise<void> {
  const signals = ["SIGINT", "SIGTERM"] as const;
  const signalled = () =>
    new Promise<void>((resolve) => {
      for (const signal of signals) process.once(signal, () => resolve());
    });
  await signalled();
  process.stderr.write("no new requests; the others are answered first\n");
  void signalled().then(() => server.abort());
  await server.close();
}
