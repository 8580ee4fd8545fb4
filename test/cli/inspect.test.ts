import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { families } from "../../lib/checkpoint/families/registry.js";
import { goldenModel, type ModelFiles, writeModel } from "../checkpoint/support/model_directory.js";
import { neededFields } from "../checkpoint/support/needed_fields.js";
import { temporaryDirectory } from "../checkpoint/support/temporary_directory.js";
import { runCli } from "./support/run_cli.js";

/** Runs `inspect` on a directory with these files. */
async function inspect(model: ModelFiles, options: readonly string[] = [], shards = 1) {
  using directory = temporaryDirectory();
  await writeModel(directory.path, model, shards);
  return await runCli(["inspect", directory.path, ...options]);
}

/** Runs `inspect` on a directory with only a config.json. */
async function inspectConfig(config: Record<string, unknown>, options: readonly string[] = []) {
  using directory = temporaryDirectory();
  writeFileSync(join(directory.path, "config.json"), JSON.stringify(config));
  return await runCli(["inspect", directory.path, ...options]);
}

const mixtral = {
  model_type: "mixtral",
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_local_experts: 8,
  num_experts_per_tok: 2,
  torch_dtype: "bfloat16",
};

describe("only config.json", () => {
  test("gives formula, memory and work", async () => {
    const { exitCode, stdout, stderr } = await inspectConfig(mixtral);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toContain("mixtral, 32 layers, all with experts: 0-31\n");
    expect(stdout).toContain("no weights found");
    expect(stdout).toContain("H 4096, I 14336, 8 experts of gate, up and down (swiglu), 2 per token\n");
    expect(stdout).toContain("routing: softmax over all 8 logits, the 2 experts with the largest score chosen;\n");
    expect(stdout).toMatch(/^one expert +176 million +336 MiB +672 MiB +336 MiB$/m);
    expect(stdout).toMatch(/^32 layers +45\.1 billion +84\.0 GiB +168 GiB +84\.0 GiB$/m);
    expect(stdout).toMatch(/^ +1 +2\.00 of 8 +672 MiB +672 MiB +705 +1\.00$/m);
  });

  test("gives JSON, for the requested numbers of tokens", async () => {
    const { exitCode, stdout } = await inspectConfig(mixtral, ["--json", "--tokens", "1,3", "--tokens", "64"]);
    expect(exitCode).toBe(0);
    const model = JSON.parse(stdout);
    const [expert, router] = [3 * 4096 * 14336, 8 * 4096];
    expect(model).toMatchObject({ family: "mixtral", layerCount: 32, quantization: null, hasWeights: false });
    expect(model.layersWithExperts).toHaveLength(32);
    expect(model.groups).toHaveLength(1);
    const [group] = model.groups;
    expect(group.parameters).toEqual({
      expert,
      layer: 8 * expert + router,
      active: 2 * expert + router,
    });
    expect(group.stored).toEqual(group.bf16);
    expect(group.f32).toEqual({
      dtype: "f32",
      expertBytes: 4 * expert,
      layerBytes: 4 * (8 * expert + router),
      allBytes: 32 * 4 * (8 * expert + router),
    });
    expect(group.storage).toBeNull();
    expect(group.batches.map(({ tokens }: { tokens: number }) => tokens)).toEqual([1, 3, 64]);
    const [one, three] = group.batches;
    expect(one.touchedExperts).toBeCloseTo(2, 12);
    expect(three.touchedExperts).toBeCloseTo(8 * (1 - 0.75 ** 3), 12);
    expect(three.bytes).toBeCloseTo(2 * (three.touchedExperts * expert + router + 2 * 3 * 4096), 3);
    expect(three.operationsPerToken).toBe(2 * (2 * expert + router + 2 * 4096));
  });

  test("tells what the configuration rounds tokens to", async () => {
    const told = async (quantization: Record<string, unknown>) => {
      const { exitCode, stdout } = await inspectConfig({ ...mixtral, quantization_config: quantization });
      expect(exitCode).toBe(0);
      return stdout.split("\n").find((line) => line.startsWith("tokens of its experts"));
    };
    const blocks = { quant_method: "fp8", activation_scheme: "dynamic", weight_block_size: [128, 128] };
    expect(await told(blocks)).toMatch(/: fp8, with a scale for each 128 columns of a token$/);
    expect(await told({ quant_method: "fp8", activation_scheme: "static" })).toMatch(
      /"checkpoint": refused: .*config\.json.*expected .*dynamic.*got static/,
    );
    expect(await told({ quant_method: "awq" })).toBeUndefined();
  });

  test("shows that weights are quantised", async () => {
    const quantised = { ...mixtral, quantization_config: { quant_method: "fp8" } };
    const { exitCode, stdout } = await inspectConfig(quantised);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("weights are quantised by fp8\n");
    expect(stdout).not.toContain("stored, ");
  });

  test("reads weights of an unknown method as those of the given one", async () => {
    const quantised = { ...mixtral, quantization_config: { quant_method: "nosuchmethod", bits: 4, group_size: 128 } };
    const { exitCode, stdout } = await inspectConfig(quantised, ["--quant-method", "GPTQ"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("weights are quantised by gptq\n");
    const { stderr, exitCode: refused } = await inspectConfig(quantised, ["--quant-method", "nosuchmethod"]);
    expect(refused).toBe(2);
    expect(stderr).toMatch(/--quant-method: expected one of fp8, .*, got "nosuchmethod"/);
  });

  test("without a dtype gives no stored memory", async () => {
    const { stdout } = await inspectConfig({ ...mixtral, torch_dtype: null });
    expect(stdout).not.toContain("stored, ");
    expect(stdout).toContain("One layer in bf16");
  });
});

describe("layers", () => {
  const qwen = { model_type: "qwen3_moe", num_hidden_layers: 8 };

  test.each([
    [qwen, "8 layers, all with experts: 0-7"],
    [{ ...qwen, decoder_sparse_step: 2 }, "8 layers, 4 of them with experts: every 2nd from 1 to 7"],
    [{ ...qwen, mlp_only_layers: [0, 5] }, "8 layers, 6 of them with experts: 1-4, 6-7"],
    [{ model_type: "deepseek_v3", num_hidden_layers: 61 }, "61 layers, 58 of them with experts: 3-60"],
  ])("%j", async (config, words) => expect((await inspectConfig(config)).stdout).toContain(words));

  test("a single one", async () => {
    const { stdout } = await inspectConfig({ ...qwen, mlp_only_layers: [0] }, ["--layer", "5"]);
    expect(stdout).toContain("\nLayer 5\n");
    expect(stdout).toMatch(/^1 layer /m);
  });

  test("of other sizes are listed separately", async () => {
    const config = {
      model_type: "hunyuan_v1_moe",
      num_hidden_layers: 4,
      num_experts: [8, 16, 8, 16],
      moe_topk: [2, 2, 2, 2],
    };
    const { stdout } = await inspectConfig(config);
    expect(stdout).toMatch(/^Layers 0, 2\n.* 8 experts /m);
    expect(stdout).toMatch(/^Layers 1, 3\n.* 16 experts /m);
  });
});

describe("layers of a formula that is not supported", () => {
  const limited = {
    model_type: "qwen3_moe",
    num_hidden_layers: 5,
    mlp_only_layers: [0],
    swiglu_limits: [0, 0, 0, 7, 16],
  };
  const reason = /config\.json: swiglu_limits: expected no limit for layer 3, as this family has none here, got 7/;

  test("are named with the reason, below the others", async () => {
    const { exitCode, stdout, stderr } = await inspectConfig(limited);
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "" });
    expect(stdout).toContain("5 layers, 4 of them with experts: 1-4\n");
    expect(stdout).toContain("\nLayers 1-2\nH 2048, ");
    expect(stdout).toMatch(/\nLayer 3\n✘ cannot be loaded:\n {2}.*expected no limit for layer 3, .*got 7/);
    expect(stdout).toMatch(/\nLayer 4\n✘ cannot be loaded:\n {2}.*expected no limit for layer 4, .*got 16/);
  });

  test("are grouped if they are refused alike, and are in the JSON", async () => {
    const { exitCode, stdout } = await inspectConfig({ ...limited, swiglu_limits: [0, 0, 0, 7, 7] }, ["--json"]);
    expect(exitCode).toBe(1);
    const model = JSON.parse(stdout);
    expect(model.groups.map(({ layers }: { layers: number[] }) => layers)).toEqual([[1, 2]]);
    expect(model.refused).toEqual([{ layers: [3, 4], reason: expect.stringMatching(reason) }]);
  });

  test("are errors if they are all that is asked for", async () => {
    for (const [config, options] of [
      [limited, ["--layer", "3"]],
      [{ ...limited, swiglu_limits: [7, 7, 7, 7, 7] }, []],
    ] as const) {
      const { exitCode, stdout, stderr } = await inspectConfig(config, options);
      expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
      expect(stderr).toMatch(/BAD_CHECKPOINT: .*swiglu_limits: expected no limit for layer \d, /);
    }
    const { exitCode } = await inspectConfig(limited, ["--layer", "2"]);
    expect(exitCode).toBe(0);
  });
});

test.each([...families.keys()])("every family by its defaults: %s", async (modelType) => {
  const { exitCode, stdout, stderr } = await inspectConfig({ model_type: modelType, ...neededFields[modelType] });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toContain(`: ${modelType}, `);
  expect(stdout).not.toMatch(/undefined|NaN|\[object/);
  expect(stdout).toMatch(/^routing: /m);
});

describe("weights", () => {
  test.each([1, 3])("are named with dtype, shape and layout; %i shards", async (shards) => {
    const model = await goldenModel("mixtral_small");
    const { hiddenSize, intermediateSize, numExperts } = model.layerFile.config;
    const { exitCode, stdout } = await inspect(model, [], shards);
    expect(exitCode).toBe(0);
    const pattern = (name: string) => `model\\.layers\\.0\\.block_sparse_moe\\.${name}\\.weight`;
    expect(stdout).toMatch(
      new RegExp(`^router +${pattern("gate")} +\\[${numExperts}, ${hiddenSize}\\] +f32 +32.0$`, "m"),
    );
    expect(stdout).toMatch(
      new RegExp(
        `^experts\\.down +${pattern("experts\\.\\{e\\}\\.w2")} +\\[${hiddenSize}, ${intermediateSize}\\] +f32 +32.0 +one per expert$`,
        "m",
      ),
    );
    expect(stdout).toContain(`✔ ${model.weights.size} of ${model.weights.size} tensors found`);
    expect(stdout).toContain("stored, f32");
  });

  test("that are quantised count as they are stored", async () => {
    const model = join(import.meta.dirname, "..", "golden", "quantised", "int4_packed");
    const [group] = JSON.parse((await runCli(["inspect", model, "--json"])).stdout).groups;
    const { description, batchDType, batches, stored } = group;
    expect(description.formats).toMatchObject({ router: "bf16", up: "i4_g32_bf16", down: "i4_channel_bf16" });
    expect(batchDType).toBe("bf16");
    const touched = 2 * stored.expertBytes + 2 * 3 * 64; // two experts and the router
    expect(batches[0].bytes).toBe(touched + 2 * 2 * 64);
    const { stdout } = await runCli(["inspect", model]);
    expect(stdout).toContain("One layer in bf16, experts in i4_g32_bf16 and i4_channel_bf16, all choices");
  });

  test("that were dequantised, contrary to config.json, count as floats", async () => {
    const model = await goldenModel("mixtral_small");
    const { exitCode, stdout } = await inspect({ ...model, config: { ...model.config, quantization_config: {} } });
    expect(exitCode).toBe(0);
    expect(stdout).not.toContain("quantised");
  });

  test("take as many bytes as their parameters", async () => {
    const model = await goldenModel("olmoe_small");
    const [group] = JSON.parse((await inspect(model, ["--json"])).stdout).groups;
    expect(group.stored).toEqual(group.f32);
    expect(group.batchDType).toBe("f32");
  });

  test("in other layouts", async () => {
    const [H, I, E] = [4, 6, 2];
    const bf16 = (...shape: number[]) => ({
      dtype: "BF16" as const,
      shape,
      data: new Uint16Array(shape.reduce((a, b) => a * b)),
    });
    const block = "model.layers.0.mlp";
    const model = {
      config: {
        model_type: "gpt_oss",
        num_hidden_layers: 1,
        hidden_size: H,
        intermediate_size: I,
        num_local_experts: E,
        num_experts_per_tok: 1,
      },
      weights: new Map([
        [`${block}.router.weight`, bf16(E, H)],
        [`${block}.router.bias`, bf16(E)],
        [`${block}.experts.gate_up_proj`, bf16(E, H, 2 * I)],
        [`${block}.experts.gate_up_proj_bias`, bf16(E, 2 * I)],
        [`${block}.experts.down_proj`, bf16(E, I, H)],
        [`${block}.experts.down_proj_bias`, bf16(E, H)],
      ]),
    };
    const { exitCode, stdout } = await inspect(model);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("2 experts of gate, up and down with biases (swiglu_clamped: alpha 1.702");
    expect(stdout).toContain("routing: 2 logits with bias, ");
    expect(stdout).toMatch(/^experts\.up .*gate_up_proj +\[2, 4, 12\] +bf16 +16.0 +experts stacked, transposed, odd$/m);
    expect(stdout).toContain("✔ 6 of 6 tensors found");
    const [group] = JSON.parse((await inspect(model, ["--json"])).stdout).groups;
    const bytes = 2 * (3 * H * I + 2 * I + H);
    expect(group.stored).toMatchObject({ dtype: "bf16", expertBytes: bytes, layerBytes: E * bytes + 2 * (E * H + E) });
  });

  test("that are missing are named, and the exit code is 1", async () => {
    const model = await goldenModel("mixtral_small");
    const missing = [...model.weights.keys()].filter((name) => name.endsWith(".w3.weight")).slice(0, 2);
    for (const name of missing) model.weights.delete(name);
    const { exitCode, stdout } = await inspect(model);
    expect(exitCode).toBe(1);
    expect(stdout).toContain(`✘ ${model.weights.size} of ${model.weights.size + 2} tensors found`);
    for (const name of missing) expect(stdout).toContain(`  missing: ${name}\n`);
    expect(JSON.parse((await inspect(model, ["--json"])).stdout).groups[0].storage.missing).toEqual(missing);
  });

  test("of the first complete layer say how many bytes are stored", async () => {
    const model = await goldenModel("mixtral_small");
    const [whole] = JSON.parse((await inspect(model, ["--json"])).stdout).groups;
    for (const [name, tensor] of [...model.weights]) {
      model.weights.set(name.replace("layers.0.", "layers.1."), tensor);
      if (name.includes(".experts.")) model.weights.delete(name);
    }
    const config = { ...model.config, num_hidden_layers: 2 };
    const { exitCode, stdout } = await inspect({ ...model, config }, ["--json"]);
    expect(exitCode).toBe(1);
    const { expertBytes, layerBytes } = whole.stored;
    expect(JSON.parse(stdout).groups[0].stored).toMatchObject({ expertBytes, layerBytes });
  });

  test("that are all missing are named in part", async () => {
    const { exitCode, stdout } = await inspect({ config: mixtral, weights: new Map() });
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/✘ 0 of 800 tensors found\n( {2}missing: .*\n){8} {2}and 792 more\n/);
  });

  test("of another dtype or shape cannot be loaded", async () => {
    const model = await goldenModel("mixtral_small");
    const [first, second] = [...model.weights.keys()].filter((name) => name.includes(".w1."));
    const weights = new Map(model.weights);
    weights.set(first as string, { dtype: "I8", shape: [2, 3], data: new Int8Array(6) });
    weights.set(second as string, { dtype: "F32", shape: [2, 3], data: new Float32Array(6) });
    const { exitCode, stdout } = await inspect({ ...model, weights });
    expect(exitCode).toBe(1);
    const expected = "expected dtype F32, F16 or BF16, or codes with scales, got I8 and no scales, such as ";
    expect(stdout).toMatch(new RegExp(`✘ cannot be loaded:\\n.*${expected}"[^"]*\\.w1\\.weight_scale"\\n`));
    weights.delete(first as string);
    expect((await inspect({ ...model, weights })).stdout).toMatch(/✘ cannot be loaded:\n.*got \[2, 3\]\n/);
  });

  test("of a malformed file are an error", async () => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, await goldenModel("mixtral_small"));
    truncateSync(join(directory.path, "model.safetensors"), 1000);
    const { exitCode, stderr } = await runCli(["inspect", directory.path]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("BAD_CHECKPOINT");
  });

  test("are not read", async () => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model.safetensors");
    await writeModel(directory.path, await goldenModel("mixtral_small"));
    const headerBytes = Number(readFileSync(path).readBigUInt64LE());
    const before = readFileSync(path);
    writeFileSync(path, before.fill(0xff, 8 + headerBytes));
    expect((await runCli(["inspect", directory.path])).exitCode).toBe(0);
  });
});

describe("what cannot be inspected", () => {
  test.each<[string, Record<string, unknown> | undefined, RegExp]>([
    ["no config.json", undefined, /BAD_CHECKPOINT: .*: expected config\.json in the directory, got /],
    ["an unknown family", { model_type: "llama" }, /model_type: expected a known model family, got "llama"/],
    [
      "a dense model",
      { model_type: "qwen3_moe", num_hidden_layers: 2, mlp_only_layers: [0, 1] },
      /BAD_CHECKPOINT: .*config\.json: expected layers with experts, got 2 dense layers/,
    ],
    [
      "more layers than are looked at",
      { model_type: "mixtral", num_hidden_layers: 4097 },
      /BAD_CHECKPOINT: .*num_hidden_layers: expected an integer from 1 to 4096, got 4097/,
    ],
    [
      "more experts than are looked for",
      { model_type: "mixtral", num_local_experts: 2 ** 30 },
      /BAD_CHECKPOINT: .*config\.json: expected at most 1048576 experts in all layers, got 34359738368/,
    ],
    [
      "an impossible formula",
      { model_type: "mixtral", num_experts_per_tok: 9 },
      /BAD_CHECKPOINT: .*topK: expected an integer from 1 to 8, got 9/,
    ],
  ])("%s", async (_what, config, message) => {
    using directory = temporaryDirectory();
    const path = join(directory.path, "model");
    mkdirSync(path);
    if (config !== undefined) writeFileSync(join(path, "config.json"), JSON.stringify(config));
    const { exitCode, stdout, stderr } = await runCli(["inspect", path]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(message);
  });

  test.each([
    ["deepseek_v3", "0", "--layer: expected a layer with experts (3, 4, 5, "],
    ["mixtral", "32", "--layer: expected an integer from 0 to 31, got 32\n"],
  ])("a layer that %s does not have: %s", async (model_type, layer, message) => {
    using directory = temporaryDirectory();
    writeFileSync(join(directory.path, "config.json"), JSON.stringify({ model_type }));
    const { exitCode, stderr } = await runCli(["inspect", directory.path, "--layer", layer]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`moe-kernels: ${message}`);
  });

  test.each([
    [[], /expected one DIR\|FILE, got none\nUsage: moe-kernels inspect DIR/],
    [["a", "b"], /expected one DIR\|FILE, got 2/],
    [["a", "--tokens", "0"], /--tokens: expected an integer >= 1, got "0"/],
    [["a", "--layer", "first"], /--layer: expected an integer >= 0/],
  ])("the command line %j", async (args, message) => {
    const { exitCode, stderr } = await runCli(["inspect", ...args]);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(message);
  });
});
