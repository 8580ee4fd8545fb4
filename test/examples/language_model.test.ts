import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  type Device,
  dequantize,
  isMoeError,
  listDevices,
  type MoeModel,
  openDevice,
  openModel,
  quantize,
} from "moe-kernels";
import { type BankServer, connectBanks, serveBanks } from "moe-kernels/parallel";
import { SafetensorsFile, type SafetensorsInput, writeSafetensors } from "moe-kernels/safetensors";
import { afterAll, describe, expect, test } from "vitest";
import { LanguageModel, type LoadOptions } from "../../build/examples/language_model/model/language_model.js";
import { Sequence } from "../../build/examples/language_model/model/sequence.js";
import { Table } from "../../build/examples/language_model/model/table.js";
import { Weights } from "../../build/examples/language_model/model/weights.js";
import { tokenizerOf } from "../../build/examples/language_model/text/gguf_tokenizer.js";
import { readTokenizerFiles, TextTokenizer } from "../../build/examples/language_model/text/tokenizer.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { randomLayer, writeOne } from "../checkpoint/support/gguf_layer.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runScript } from "../support/run_script.js";
import { ServingProcess } from "../support/serving_process.js";
import { deepseekGguf } from "./deepseek_gguf.js";
import { glmGguf } from "./glm_gguf.js";
import { expected, families, golden, words } from "./golden_model.js";

const inGguf = ["mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe"] as const;
const devices = listDevices().flatMap(({ name, available }) => (available ? [name] : []));

/** The largest difference of logits after some of the tokens, relative to the largest logit of all. */
async function differences(
  device: Device,
  family: string,
  { capacity, path = golden(family), options }: { capacity?: number; path?: string; options?: LoadOptions } = {},
): Promise<number> {
  const { ids, logits } = await expected(family);
  using model = await LanguageModel.load(device, path, options);
  const { vocabulary } = model.config;
  using sequence = new Sequence(device, model.config, capacity);
  const largest = logits.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  let worst = 0;
  // A prompt, then token by token.
  for (let begin = 0, end = 5; end <= ids.length; begin = end++) {
    const [got] = await model.forward([{ sequence, ids: ids.slice(begin, end) }]);
    got?.forEach((value, i) => {
      worst = Math.max(worst, Math.abs(value - (logits[(end - 1) * vocabulary + i] as number)) / largest);
    });
  }
  return worst;
}

describe.each(devices)("a language model on %s", (name) => {
  test.each(families)("%s has the logits of its formulas", async (family) => {
    await using device = openDevice(name as "cpu");
    expect(await differences(device, family)).toBeLessThan(2e-6);
  });
});

test.each(["qwen3_moe", "deepseek_v3"])("what the layers of %s keep of a text grows with it", async (family) => {
  await using device = openDevice("cpu");
  expect(await differences(device, family, { capacity: 1 })).toBeLessThan(2e-6);
});

describe("experts in other processes", () => {
  /** Servers of banks of all layers of a model with four experts. */
  async function serversOf(device: Device, path: string, ranges: readonly (readonly [first: number, count: number])[]) {
    await using model = await openModel(path);
    const servers: BankServer[] = [];
    for (const [first, count] of ranges) {
      servers.push(await serveBanks(await model.loadAll({ device, bank: { first, count } })));
    }
    const remotes = await Promise.all(servers.map(({ address }) => connectBanks(address)));
    const close = async () => {
      for (const remote of remotes) remote.close();
      for (const server of servers) await server.close();
    };
    return { remotes, [Symbol.asyncDispose]: close };
  }

  test.each(families)("give the logits of %s", async (family) => {
    await using device = openDevice("cpu");
    const ranges =
      family === "mixtral"
        ? ([
            [0, 1],
            [3, 1],
          ] as const)
        : ([[1, 3]] as const);
    await using served = await serversOf(device, golden(family), ranges);
    expect(await differences(device, family, { options: { servers: served.remotes } })).toBeLessThan(2e-6);
    for (const { traffic } of served.remotes) expect(traffic.tokens).toBeGreaterThan(0);
  });

  test.each<[(readonly [first: number, count: number])[]]>([[[[0, 4]]], [[[1, 2]]]])(
    "in %j leave no range",
    async (ranges) => {
      await using device = openDevice("cpu");
      await using served = await serversOf(device, golden("mixtral"), ranges);
      const loading = LanguageModel.load(device, golden("mixtral"), { servers: served.remotes });
      await expect(loading).rejects.toThrow("expected servers that leave one range of the 4 experts of layer 0");
    },
  );
});

describe("a table", () => {
  test.each(["f32", "bf16", "q4_k", "q6_k", "q8_0"])("of %s has the rows of tokens", async (format) => {
    await using device = openDevice("cpu");
    const values = new Random("table").normals(5 * 256);
    const rows = device.tensor(values, [5, 256], format === "bf16" ? "bf16" : "f32");
    const isFloat = ["f32", "bf16"].includes(format);
    using table = new Table(isFloat ? rows : quantize(rows, format));
    const all = isFloat ? rows : dequantize(quantize(rows, format));
    const expected = [...(await all.data())];
    const ids = [3, 0, 3, 4];
    expect([...(await table.read(ids))]).toEqual(ids.flatMap((id) => expected.slice(id * 256, (id + 1) * 256)));
  });

  test("is refused if its rows have scales in common", async () => {
    await using device = openDevice("cpu");
    using rows = device.zeros([256, 256], "f32");
    expect(() => new Table(quantize(rows, "fp8_b128"))).toThrow("expected a table whose rows have scales of their own");
  });
});

test("products with quantised weights round tokens as asked, others do not", async () => {
  await using device = openDevice("cpu");
  const matrix = () => device.zeros([32, 64], "f32");
  const modelOf = (weight: unknown) => ({ weight: async () => weight }) as unknown as MoeModel;
  const packed = (weight: unknown) => new Weights(modelOf(weight), device, "int8").packed("w", [32, 64]);
  using quantised = await packed(quantize(matrix(), "q8_0"));
  using plain = await packed(matrix());
  expect([quantised.tokenFormat, plain.tokenFormat]).toEqual(["int8", "none"]);
});

const directory = temporaryDirectory();
afterAll(() => directory[Symbol.dispose]());

/** A copy of a golden model with a changed configuration. */
function changed(family: string, fields: object): string {
  const copy = join(directory.path, `changed-${Math.random()}`);
  cpSync(golden(family), copy, { recursive: true });
  const path = join(copy, "config.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...fields }));
  return copy;
}

/** The largest difference of two models' logits after a family's tokens, relative to the largest of the second's. */
async function apart(family: string, first: string, second: string, options: LoadOptions = {}): Promise<number> {
  await using device = openDevice("cpu");
  const logits = async (path: string, options: LoadOptions) => {
    using model = await LanguageModel.load(device, path, options);
    using sequence = model.sequence();
    const [last] = await model.forward([{ sequence, ids: (await expected(family)).ids }]);
    return last as Float32Array;
  };
  return relativeError(await logits(first, {}), await logits(second, options));
}

const yarn = { type: "yarn", factor: 40, beta_fast: 32, beta_slow: 1, original_max_position_embeddings: 64 };

describe("a GGUF file", () => {
  test.each<[family: string, fields: object]>([
    // llama.cpp has no window for Mixtral.
    ...inGguf.map((family): [string, object] => [family, family === "mixtral" ? { sliding_window: null } : {}]),
    ["deepseek_v2", {}],
    ["kimi_k2", {}],
    ["glm4_moe", {}],
    // Metadata have one number for both.
    ["deepseek_v3", { rope_scaling: { ...yarn, mscale: 0.5, mscale_all_dim: 0.5 } }],
    // And tell those who read no number what it would be.
    ["deepseek_v3", { rope_scaling: yarn }],
  ])("of %s that quantize wrote has the logits of the directory in the same format: %j", async (family, fields) => {
    const model = changed(family, fields);
    const file = `${model}.gguf`;
    const { status, stderr } = runScript("dist/cli/main.js", ["quantize", model, "--format", "q8_0", "--out", file]);
    expect(status, stderr).toBe(0);
    expect(await apart(family, file, model, { dtype: "q8_0" })).toBeLessThan(2e-6);
  });

  test("of GLM-4.5 has the logits of the directory", async () => {
    const file = join(directory.path, "glm.gguf");
    writeFileSync(file, await glmGguf(golden("glm4_moe")));
    await using device = openDevice("cpu");
    expect(await differences(device, "glm4_moe", { path: file })).toBeLessThan(2e-6);
  });

  // DeepSeek-V2 has one matrix of queries, Kimi K2 one to a row of queries and one from it.
  describe.each(["deepseek_v2", "kimi_k2"])("of %s", (family) => {
    test.each(["one matrix", "stacks"] as const)(
      "with keys and values in %s has the logits of the directory",
      async (layout) => {
        const file = join(directory.path, `${family}-${layout}.gguf`);
        writeFileSync(file, await deepseekGguf(golden(family), layout));
        await using device = openDevice("cpu");
        expect(await differences(device, family, { path: file })).toBeLessThan(2e-6);
      },
    );
  });

  test("of DeepSeek may have YaRN without mscale_all_dim, with bounds that are rounded", async () => {
    // They are 0.65 and 1.4 for these.
    const yarn = { type: "yarn", factor: 40, beta_fast: 32, beta_slow: 1, original_max_position_embeddings: 4096 };
    const model = changed("kimi_k2", { rope_theta: 1e4, rope_scaling: yarn });
    const file = `${model}.gguf`;
    writeFileSync(file, await deepseekGguf(model, "stacks", { "rope.scaling.yarn_log_multiplier": undefined }));
    expect(await apart("kimi_k2", file, model)).toBeLessThan(2e-6);
  });

  test.each([
    [
      { "attention.temperature_scale": { type: "f32", value: 0.5 } },
      /expected attention\.temperature_scale 0, got 0\.5$/,
    ],
    [{ "attention.key_length_mla": 4 }, /plainSize: expected a finite number above 0, got 0$/],
    [{ "attention.value_length_mla": 8 }, /attn_v_b\.weight": expected shape \[4, 8, 16\] .*, got \[4, 6, 16\]$/],
  ] as const)("of DeepSeek with %j is refused", async (metadata, message) => {
    const file = join(directory.path, `${Math.random()}.gguf`);
    writeFileSync(file, await deepseekGguf(golden("deepseek_v2"), "stacks", metadata));
    await using device = openDevice("cpu");
    await expect(LanguageModel.load(device, file)).rejects.toThrow(message);
  });

  test("of another architecture is refused", async () => {
    const { file } = randomLayer(new Random("language model"), { gemma: true });
    const path = writeOne(directory.path, file);
    await using device = openDevice("cpu");
    await expect(LanguageModel.load(device, path)).rejects.toThrow(
      /expected general\.architecture llama, .*, got "gemma4"$/,
    );
  });
});

describe("a model is refused", () => {
  const refusal = async (path: string): Promise<unknown> => {
    await using device = openDevice("cpu");
    return await LanguageModel.load(device, path).then(
      () => undefined,
      (error) => error,
    );
  };

  test.each([
    ["mixtral", { model_type: "qwen3_next" }, /expected model_type mixtral, .*, got "qwen3_next"$/],
    ["mixtral", { num_key_value_heads: 3 }, /expected a number of key-value heads that divides the 4 heads, got 3$/],
    ["mixtral", { hidden_size: -1 }, /hiddenSize: expected a finite number above 0, got -1$/],
    ["olmoe", { clip_qkv: 8 }, /clip_qkv: expected null, got 8$/],
    ["olmoe", { rope_scaling: { type: "linear", factor: 2 } }, /expected rope_type default or yarn, got "linear"$/],
    ["gpt_oss", { sliding_window: null }, /expected a window above 0 where attention slides, got null$/],
    [
      "gpt_oss",
      { rope_scaling: { type: "yarn", factor: 2, mscale: 1 } },
      /expected YaRN with both mscale and mscale_all_dim or neither, got mscale without mscale_all_dim$/,
    ],
    [
      "glm4_moe",
      { partial_rotary_factor: 0.4 },
      /expected an even number of elements to turn, of the 8 of a head, got 3$/,
    ],
    ["glm4_moe", { hidden_act: "gelu" }, /hidden_act: expected silu in layers without experts, got "gelu"$/],
    ["granitemoe", { position_embedding_type: "nope" }, /position_embedding_type: expected "rope", got "nope"$/],
    ["granitemoe", { residual_multiplier: 0 }, /tableScale: expected a finite number above 0, got Infinity$/],
    ["gpt_oss", { layer_types: undefined }, /expected layer_types, .*, got none$/],
    ["qwen3_moe", { mlp_only_layers: [0] }, /expected a tensor "model\.layers\.0\.mlp\.gate_proj\.weight", got none/],
    [
      "qwen3_moe",
      { num_attention_heads: 2 },
      /q_proj\.weight": expected shape \[16, 32\] from the option shape, got \[32, 32\]$/,
    ],
  ])("%s with %j", async (family, fields, message) => {
    const error = await refusal(changed(family, fields));
    expect(error instanceof RangeError || isMoeError(error, "BAD_CHECKPOINT")).toBe(true);
    expect((error as Error).message).toMatch(message);
  });

  test("if its configuration is not JSON", async () => {
    const path = join(changed("mixtral", {}), "config.json");
    // The package reads what Python writes of an infinite number.
    writeFileSync(path, readFileSync(path, "utf8").replace("{", '{ "attention_limit": Infinity,'));
    const error = await refusal(dirname(path));
    expect(error).toBeInstanceOf(RangeError);
    expect((error as Error).message).toMatch(/config\.json: expected JSON: Unexpected token/);
  });

  test("if weights are missing", async () => {
    const copy = changed("mixtral", {});
    await using file = await SafetensorsFile.open(join(golden("mixtral"), "model.safetensors"));
    const kept = new Map<string, SafetensorsInput>();
    for (const name of file.tensors.keys()) kept.set(name, await file.read(name));
    kept.delete("model.layers.1.self_attn.o_proj.weight");
    await writeSafetensors(join(copy, "model.safetensors"), Object.fromEntries(kept));
    const error = await refusal(copy);
    expect(isMoeError(error) && error.code).toBe("BAD_CHECKPOINT");
    expect((error as Error).message).toContain('expected a tensor "model.layers.1.self_attn.o_proj.weight"');
  });
});

describe("npm run example:language-model", () => {
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = runScript("build/examples/language_model/commands/language_model.js", args);
    return { status, stdout, stderr };
  };

  test("takes the most likely tokens, and stops at the end of the text", async () => {
    const { ids, logits } = await expected("qwen3_moe");
    const best = (token: number) => {
      const row = logits.subarray(40 * token, 40 * (token + 1));
      return row.indexOf(Math.max(...row));
    };
    const model = changed("qwen3_moe", {});
    writeFileSync(join(model, "tokenizer.json"), JSON.stringify(words));
    const prompt = ids.map((id) => `w${id}`).join(" ");
    const given = ["--model", model, "--prompt", prompt, "--temperature", "0"];
    const { status, stdout, stderr } = run(...given, "--tokens", "1");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "1 of 2 layers\n2 of 2 layers\n" });
    expect(stdout).toMatch(/\n\nprompt: 11 tokens in \S+ s, \S+ per second; then 0 tokens in \S+ s\n$/);
    expect(stdout.split("\n")[0]).toBe(`w${best(10)}`);
    writeFileSync(join(model, "generation_config.json"), JSON.stringify({ eos_token_id: [3, best(10)] }));
    expect(run(...given, "--dtype", "int8_g32").stdout).toMatch(/^\n\nprompt: .*; then 0 tokens/);
  });

  test("runs the GGUF file that `quantize` writes, with its tokenizer", () => {
    const model = changed("qwen3_moe", {});
    const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false };
    const vocab = Object.fromEntries(Array.from({ length: 40 }, (_, id) => [String.fromCodePoint(65 + id), id]));
    const tokenizer = { ...words, pre_tokenizer: bytes, decoder: bytes, model: { type: "BPE", vocab, merges: [] } };
    writeFileSync(join(model, "tokenizer.json"), JSON.stringify(tokenizer));
    const file = `${model}.gguf`;
    const { stderr } = runScript("dist/cli/main.js", ["quantize", model, "--format", "q8_0", "--out", file]);
    expect(stderr).not.toContain("no tokenizer");
    const of = (path: string, ...more: string[]) =>
      run("--model", path, "--prompt", "HELLO", "--temperature", "0", "--tokens", "8", ...more);
    const answer = of(file);
    expect(answer.status).toBe(0);
    expect(answer.stdout.split("\n")[0]).toBe(of(model, "--dtype", "q8_0").stdout.split("\n")[0]);
    expect(answer.stdout).toContain("prompt: 5 tokens");
  });

  test("uses the experts of servers", async () => {
    const model = changed("qwen3_moe", {});
    writeFileSync(join(model, "tokenizer.json"), JSON.stringify(words));
    const given = ["--model", model, "--prompt", "w1 w2 w3", "--tokens", "4", "--temperature", "0"];
    await using first = new ServingProcess([model, "--experts", "0", "--device", "cpu"]);
    await using last = new ServingProcess([model, "--experts", "2-3", "--device", "cpu"]);
    const servers = `${await first.address()},${await last.address()}`;
    const { status, stdout, stderr } = run(...given, "--servers", servers);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "1 of 2 layers\n2 of 2 layers\n" });
    expect(stdout.split("\n")[0]).toBe(run(...given).stdout.split("\n")[0]);
    expect(await last.end()).toEqual([0, null]);
    expect(run(...given, "--servers", servers)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^example:language-model: .*ECONNREFUSED.*\n$/),
    });
  });

  test("rounds tokens", () => {
    const model = changed("qwen3_moe", {});
    writeFileSync(join(model, "tokenizer.json"), JSON.stringify(words));
    const given = ["--model", model, "--prompt", "w1 w2 w3", "--tokens", "2", "--token-format"];
    const { status, stdout } = run(...given, "int8", "--dtype", "int8_g32");
    expect(status).toBe(0);
    expect(stdout).toContain("prompt: 3 tokens");
    expect(run(...given, "int8").stderr).toContain('tokenFormat: expected "none" with weights that are not quantised');
    expect(run(...given, "int9").stderr).toContain("tokenFormat: expected");
  });

  test("has as many tokens as the model", () => {
    const model = changed("qwen3_moe", { max_position_embeddings: 8 });
    writeFileSync(join(model, "tokenizer.json"), JSON.stringify(words));
    const given = ["--model", model, "--prompt", "w1 w2 w3", "--top-p", "0.5"];
    expect(run(...given).stdout).toMatch(/\n\nprompt: 3 tokens in .*; then 4 tokens in /);
    const tooMany = "--tokens: expected at most 5, as a text of this model has 8 and the prompt 3, got 6";
    expect(run(...given, "--tokens", "6").stderr).toBe(`example:language-model: ${tooMany}\n`);
    const tooLong = "--prompt: expected fewer tokens than the 8 of a text of this model, got 8";
    expect(run("--model", model, "--prompt", "w1 ".repeat(8)).stderr).toBe(`example:language-model: ${tooLong}\n`);
    const share = "--top-p: expected a number from 0 to 1, got 2";
    expect(run(...given, "--top-p", "2").stderr).toBe(`example:language-model: ${share}\n`);
  });

  test("tells what a directory lacks", () => {
    const { status, stderr } = run("--model", "none");
    const message = "none: expected the model's directory, with a tokenizer.json, got none";
    expect({ status, stderr }).toEqual({ status: 1, stderr: `example:language-model: ${message}\n` });
  });

  test("needs a model", () => {
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toBe(
      "example:language-model: --model: expected the directory of a model, or a GGUF file, got none\n",
    );
  });
});

describe("a tokenizer", () => {
  const tokenizerFrom = async (tokenizer: object, settings: object) => {
    const path = changed("mixtral", {});
    writeFileSync(join(path, "tokenizer.json"), JSON.stringify(tokenizer));
    writeFileSync(join(path, "tokenizer_config.json"), JSON.stringify(settings));
    return new TextTokenizer(await readTokenizerFiles(path));
  };

  test("puts what a user says into the model's template", async () => {
    const template =
      "{{ bos_token }} {% for m in messages %}{{ m.content }} {% endfor %}{% if add_generation_prompt %}w9{% endif %}";
    const settings = { chat_template: template, bos_token: { content: "w7" } };
    const tokenizer = await tokenizerFrom(words, settings);
    expect(tokenizer.encodeChat([{ role: "user", content: "w1 w2" }])).toEqual([7, 1, 2, 9]);
    expect(tokenizer.encode("w1 w2")).toEqual([1, 2]);
    expect([...tokenizer.endIds]).toEqual([1]);
  });

  test("leaves a character out until it is complete", async () => {
    const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
    const model = { type: "BPE", vocab: { Ã: 0, "©": 1, a: 2 }, merges: [] };
    const tokenizer = await tokenizerFrom({ ...words, pre_tokenizer: bytes, decoder: bytes, model }, {});
    expect(tokenizer.encode("aé")).toEqual([2, 0, 1]);
    expect([[2], [2, 0], [2, 0, 1]].map((ids) => tokenizer.decode(ids))).toEqual(["a", "a", "aé"]);
  });

  test("leaves spaces before punctuation as they are", async () => {
    const tokenizer = await tokenizerFrom(
      { ...words, model: { ...words.model, vocab: { a: 0, "?": 1 }, unk_token: "a" } },
      {},
    );
    expect(tokenizer.decode([0, 1])).toBe("a ?");
  });

  test("without a template has no chat", async () => {
    const tokenizer = await tokenizerFrom(words, {});
    expect(() => tokenizer.encodeChat([{ role: "user", content: "w1" }])).toThrow(
      /^chat: expected a model with a chat template, got one without/,
    );
  });
});

describe("the tokenizer of a GGUF file", () => {
  // A space is Ġ there. Merges make "1" and "2" one token wherever they come together in a piece.
  const tokens = ["H", "i", "1", "2", "Ġ", "'", "s", "<end>", "<tool>", "12", "Hi", "'s", "ĠH"];
  const metadata = (pre: string | undefined, more: object = {}) =>
    new Map(
      Object.entries({
        "tokenizer.ggml.model": "gpt2",
        ...(pre && { "tokenizer.ggml.pre": pre }),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": Int32Array.of(1, 1, 1, 1, 1, 1, 1, 3, 4, 1, 1, 1, 1),
        "tokenizer.ggml.merges": ["1 2", "Ġ H", "H i", "' s"],
        "tokenizer.ggml.eos_token_id": 7,
        ...more,
      }),
    );
  const pieces = (pre: string | undefined, text: string, more: object = {}) => {
    const tokenizer = new TextTokenizer(tokenizerOf(metadata(pre, more), "model.gguf"));
    return tokenizer.encode(text).map((id) => tokens[id]);
  };

  test("splits texts as its name says", () => {
    // Qwen's numbers are single digits, and gpt-oss's have three at most.
    expect(pieces("qwen2", "Hi 12's")).toEqual(["Hi", "Ġ", "1", "2", "'s"]);
    expect(pieces("glm4", "Hi 12's")).toEqual(["Hi", "Ġ", "12", "'s"]);
    expect(pieces("gpt-4o", "Hi 1212")).toEqual(["Hi", "Ġ", "12", "1", "2"]);
    expect(pieces("deepseek-v3", "Hi 1212")).toEqual(["Hi", "Ġ", "12", "1", "2"]);
    expect(pieces(undefined, "Hi 1212")).toEqual(["Hi", "Ġ", "12", "12"]);
    expect(pieces("qwen2", "Hi Hi")).toEqual(["Hi", "ĠH", "i"]);
  });

  test("has special tokens, what begins a text, a template, and ends", () => {
    expect(pieces("qwen2", "Hi<tool>s<end>")).toEqual(["Hi", "<tool>", "s", "<end>"]);
    const begins = { "tokenizer.ggml.bos_token_id": 7, "tokenizer.ggml.add_bos_token": true };
    expect(pieces("qwen2", "Hi", begins)).toEqual(["<end>", "Hi"]);
    const template = { "tokenizer.chat_template": "{{ messages[0].content }}<end>", "tokenizer.ggml.eot_token_id": 8 };
    const tokenizer = new TextTokenizer(tokenizerOf(metadata("qwen2", template), "model.gguf"));
    expect(tokenizer.encodeChat([{ role: "user", content: "Hi" }])).toEqual([10, 7]);
    expect([...tokenizer.endIds]).toEqual([7, 8]);
    expect(tokenizer.decode([10, 7, 8, 4])).toBe("Hi<tool> ");
  });

  test.each([
    ["bert", undefined],
    ["gpt2", "tekken"],
  ])("is refused if it is %s with %s", (model, pre) => {
    const all = metadata(pre, { "tokenizer.ggml.model": model });
    expect(() => tokenizerOf(all, "model.gguf")).toThrow(
      /^model\.gguf: expected tokenizer llama, or gpt2 with gpt-2, qwen2, glm4, gpt-4o, deepseek-v3, got .*; give --tokenizer DIR/,
    );
  });
});
