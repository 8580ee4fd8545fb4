import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { quantizeCheckpoint } from "../../../lib/checkpoint/quantize/quantize_checkpoint.js";
import { SafetensorsFile, ShardedCheckpoint } from "../../../lib/checkpoint/safetensors/index.js";
import { openDevice } from "../../../lib/devices.js";
import { expectRejection } from "../../support/errors.js";
import { expectSameLayers } from "../support/layer_outputs.js";
import { writeRandomModel } from "../support/random_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// Models whose experts are stacked in one tensor, quantised to the layouts that other software reads.

const [H, I, E] = [64, 96, 3];
const directory = temporaryDirectory();
const device = openDevice("reference");
afterAll(() => {
  device.dispose();
  directory[Symbol.dispose]();
});

const { fresh } = directory;

const common = {
  hidden_size: H,
  intermediate_size: I,
  num_hidden_layers: 2,
  num_experts_per_tok: 2,
  num_local_experts: E,
  torch_dtype: "bfloat16",
};

interface Stacked {
  readonly config: object;
  /** The storage scheme of the family that is stacked. */
  readonly storage: number;
  readonly prefix?: string;
  /** Where layer 1's first expert is afterwards, and its router. */
  readonly expert: string;
  readonly matrices: readonly [gate: string, up: string, down: string];
  readonly router: string;
}

const projections = ["gate_proj", "up_proj", "down_proj"] as const;
const mixtralNames = ["w1", "w3", "w2"] as const;

const families: Readonly<Record<string, Stacked>> = {
  llama4_text: {
    config: { ...common, model_type: "llama4_text", interleave_moe_layer_step: 1 },
    storage: 0,
    expert: "model.layers.1.feed_forward.experts.0",
    matrices: projections,
    router: "model.layers.1.feed_forward.router.weight",
  },
  "llama4 in a multimodal model": {
    config: { model_type: "llama4", text_config: { ...common, interleave_moe_layer_step: 1 } },
    storage: 0,
    prefix: "language_model.",
    expert: "language_model.model.layers.1.feed_forward.experts.0",
    matrices: projections,
    router: "language_model.model.layers.1.feed_forward.router.weight",
  },
  granitemoe: {
    config: { ...common, model_type: "granitemoe" },
    storage: 0,
    expert: "model.layers.1.block_sparse_moe.experts.0",
    matrices: mixtralNames,
    router: "model.layers.1.block_sparse_moe.router.layer.weight",
  },
  "mixtral of Transformers 5": {
    config: { ...common, model_type: "mixtral" },
    storage: 2,
    expert: "model.layers.1.block_sparse_moe.experts.0",
    matrices: mixtralNames,
    router: "model.layers.1.block_sparse_moe.gate.weight",
  },
  "qwen3_moe of Transformers 5": {
    config: { ...common, model_type: "qwen3_moe", moe_intermediate_size: I, num_experts: E },
    storage: 1,
    expert: "model.layers.1.mlp.experts.0",
    matrices: projections,
    router: "model.layers.1.mlp.gate.weight",
  },
};

const gptOss = { ...common, model_type: "gpt_oss" };

async function write(config: object, storage: number, prefix?: string): Promise<string> {
  const path = fresh();
  await writeRandomModel(path, config, { storage, ...(prefix !== undefined && { prefix }) });
  return path;
}

function run(from: string, out: string, format: string, layers?: readonly number[], on = device) {
  return quantizeCheckpoint(from, {
    ...{ device: on, format, out, scale: "largest", existing: "refuse", layers },
    onProgress: () => {},
  });
}

const expectSame = (out: string, source: string, dtype: string) => expectSameLayers(device, out, source, dtype);

const readConfig = (path: string) => JSON.parse(readFileSync(join(path, "config.json"), "utf8"));

describe.each(Object.entries(families))("%s", (_, { config, storage, prefix, expert, matrices, router }) => {
  test.each(["int4_g32", "uint4_g32", "fp8", "fp8_b128", "nvfp4"])(
    "in %s has single experts and gives the layers that dtype gives",
    async (format) => {
      const source = await write(config, storage, prefix);
      const out = fresh();
      const { errors, bytesAfter } = await run(source, out, format);
      await expectSame(out, source, format);
      await using before = await ShardedCheckpoint.open(source);
      await using after = await ShardedCheckpoint.open(out);
      const names = [...after.shards.keys()];
      for (const matrix of matrices) expect(names).toContain(`${expert}.${matrix}.weight_scale`);
      expect(names.filter((name) => name.startsWith(`${expert}.`))).toHaveLength(
        3 * { int4_g32: 3, uint4_g32: 4, fp8: 2, fp8_b128: 2, nvfp4: 3 }[format as "fp8"],
      );
      expect(names).toContain(router);
      expect(names.some((name) => /gate_up_proj|input_linear|down_proj$/.test(name))).toBe(false);
      // No float tensor but experts is gone.
      const other = (name: string) => !/experts?\b/.test(name) && !/_linear\.weight$/.test(name);
      expect(names.filter(other)).toHaveLength([...before.shards.keys()].filter(other).length);
      const { ignore } = readConfig(out).quantization_config;
      expect(ignore).toContain(router.replace(/\.weight$/, ""));
      const roles = new Set(errors.map(({ role }) => role));
      expect(errors).toHaveLength(2 * (3 * E + (roles.has("shared.gate") ? 3 : 0)));
      expect(bytesAfter).toBeGreaterThan(0);
    },
  );
});

describe("gpt-oss", () => {
  test("in mxfp4 has its own layout and gives the layers that dtype gives", async () => {
    const source = await write(gptOss, 0);
    const out = fresh();
    const { errors } = await run(source, out, "mxfp4");
    await expectSame(out, source, "mxfp4");
    expect(errors).toHaveLength(2 * 3 * E);
    expect(readConfig(out)).toEqual({
      ...gptOss,
      quantization_config: {
        quant_method: "mxfp4",
        modules_to_not_convert: [
          "model.layers.*.self_attn",
          "model.layers.*.mlp.router",
          "model.embed_tokens",
          "lm_head",
        ],
      },
    });
    await using after = await ShardedCheckpoint.open(out);
    const shape = async (name: string) => {
      const { dtype, shape } = (await after.fileOf(name)).info(name);
      return [dtype, ...shape];
    };
    const experts = "model.layers.1.mlp.experts";
    expect(await shape(`${experts}.gate_up_proj_blocks`)).toEqual(["U8", E, 2 * I, H / 32, 16]);
    expect(await shape(`${experts}.gate_up_proj_scales`)).toEqual(["U8", E, 2 * I, H / 32]);
    expect(await shape(`${experts}.down_proj_blocks`)).toEqual(["U8", E, H, I / 32, 16]);
    expect(await shape(`${experts}.down_proj_scales`)).toEqual(["U8", E, H, I / 32]);
    expect(await shape(`${experts}.gate_up_proj_bias`)).toEqual(["BF16", E, 2 * I]);
    expect(after.has(`${experts}.gate_up_proj`)).toBe(false);
  });

  test.each(["int4_g32", "fp8", "nvfp4"])(
    "in %s is refused, because other software does not read it",
    async (format) => {
      const out = fresh();
      const refused = run(await write(gptOss, 0), out, format);
      await expectRejection(
        refused,
        "UNSUPPORTED_DTYPE",
        /^format: expected mxfp4, the only format .* of gpt_oss, got /,
      );
      expect(existsSync(out)).toBe(false);
    },
  );

  test("with the names of OpenAI's own files is refused", async () => {
    const refused = run(await write(gptOss, 1), fresh(), "mxfp4");
    await expectRejection(
      refused,
      "UNSUPPORTED_OPERATION",
      /expected tensors named as Transformers names them, .* got "block.0.mlp.mlp1_weight"$/,
    );
  });
});

test.each(["cpu", "simt"] as const)("%s writes the same bytes", async (name) => {
  using other = openDevice(name);
  const { config, storage } = families.llama4_text as Stacked;
  for (const [path, format] of [
    [await write(config, storage), "int4_g32"],
    [await write(gptOss, 0), "mxfp4"],
  ] as const) {
    const [expected, actual] = [fresh(), fresh()];
    await run(path, expected, format);
    await run(path, actual, format, undefined, other);
    for (const file of readdirSync(expected)) {
      if (!file.endsWith(".safetensors")) continue;
      await using before = await SafetensorsFile.open(join(expected, file));
      await using after = await SafetensorsFile.open(join(actual, file));
      expect([...after.tensors]).toEqual([...before.tensors]);
      for (const tensor of before.tensors.keys()) expect(await after.read(tensor)).toEqual(await before.read(tensor));
    }
  }
});

describe("what is refused", () => {
  test("some layers of a model whose experts are stacked", async () => {
    const { config, storage } = families.granitemoe as Stacked;
    for (const [path, format] of [
      [await write(config, storage), "int8"],
      [await write(gptOss, 0), "mxfp4"],
    ] as const) {
      const out = fresh();
      await expectRejection(
        run(path, out, format, [1]),
        "INVALID_ARGUMENT",
        /^layers: expected all layers with experts \(0, 1\), .* got 1$/,
      );
      expect(existsSync(out)).toBe(false);
    }
  });

  test.each([
    [
      "dbrx",
      { model_type: "dbrx", d_model: H, n_layers: 1, ffn_config: { ffn_hidden_size: I, moe_num_experts: E } },
      "transformer.blocks.0.ffn.experts.mlp.v1",
    ],
    [
      "openmoe",
      {
        ...common,
        architectures: ["OpenMoeForCausalLM"],
        num_hidden_layers: 1,
        num_experts: E,
        router_topk: 2,
        moe_layer_interval: 1,
        hidden_act: "silu",
      },
      "model.layers.0.mlp.experts.wi_up",
    ],
  ])("%s, whose quantised experts no other software reads", async (family, config, name) => {
    const out = fresh();
    await expectRejection(
      run(await write(config, 0), out, "int4_g32"),
      "UNSUPPORTED_OPERATION",
      new RegExp(`expected a family whose quantised experts other software reads, got ${family}, .*"${name}"`),
    );
    expect(existsSync(out)).toBe(false);
  });

  test("stacked experts that are quantised already", async () => {
    const { config, storage } = families.granitemoe as Stacked;
    const source = await write(config, storage);
    const out = fresh();
    await run(source, out, "int8");
    await expectRejection(run(out, fresh(), "int8"), "BAD_CHECKPOINT", /quantised already$/);
  });
});
