import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  type QuantizeCheckpointOptions,
  quantizeCheckpoint,
} from "../../../lib/checkpoint/quantize/quantize_checkpoint.js";
import { SafetensorsFile, ShardedCheckpoint } from "../../../lib/checkpoint/safetensors/index.js";
import type { MoeErrorCode } from "../../../lib/core/errors.js";
import { fromBF16 } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { expectRejection } from "../../support/errors.js";
import { expectSameLayers, layerOutputs } from "../support/layer_outputs.js";
import { writeRandomModel } from "../support/random_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// Models quantised to the layout of MLX: what mlx-lm's own convert writes of their experts, beside tensors that stay floats.

const [H, I, E] = [64, 128, 3];
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
  moe_intermediate_size: I,
  num_hidden_layers: 2,
  num_experts_per_tok: 2,
  torch_dtype: "bfloat16",
};
const routed = { n_routed_experts: E, n_group: 1, topk_group: 1, first_k_dense_replace: 0, n_shared_experts: 1 };
const ofQwen = { num_experts: E, shared_expert_intermediate_size: I };

/** A configuration of each family, and where its experts are in layer 1. */
const families: Readonly<Record<string, readonly [config: object, experts: string]>> = {
  mixtral: [{ num_local_experts: E }, "block_sparse_moe.switch_mlp"],
  phimoe: [{ num_local_experts: E }, "block_sparse_moe.switch_mlp"],
  minimax_m2: [{ num_local_experts: E }, "block_sparse_moe.switch_mlp"],
  qwen2_moe: [ofQwen, "mlp.switch_mlp"],
  qwen3_moe: [ofQwen, "mlp.switch_mlp"],
  olmoe: [ofQwen, "mlp.switch_mlp"],
  lfm2_moe: [{ num_experts: E, num_dense_layers: 0 }, "feed_forward.switch_mlp"],
  glm4_moe: [routed, "mlp.switch_mlp"],
  glm4_moe_lite: [{ ...routed, mlp_layer_types: ["sparse", "sparse"] }, "mlp.switch_mlp"],
  deepseek: [routed, "mlp.switch_mlp"],
  deepseek_v2: [routed, "mlp.switch_mlp"],
  deepseek_v3: [routed, "mlp.switch_mlp"],
  kimi_k2: [routed, "mlp.switch_mlp"],
  dots1: [routed, "mlp.experts"],
};

const configOf = (modelType: string) => ({ ...common, ...families[modelType]?.[0], model_type: modelType });

async function write(config: object, storage = 0): Promise<string> {
  const path = fresh();
  await writeRandomModel(path, config, { storage });
  return path;
}

function run(from: string, out: string, options: Partial<QuantizeCheckpointOptions> = {}) {
  const defaults = { device, format: "a4_g64_bf16", scale: "largest", existing: "refuse" } as const;
  return quantizeCheckpoint(from, { ...defaults, onProgress: () => {}, ...options, out });
}

const expectSame = (out: string, source: string, dtype: string) => expectSameLayers(device, out, source, dtype);

async function infoOf(path: string, name: string) {
  await using checkpoint = await ShardedCheckpoint.open(path);
  const { dtype, shape } = (await checkpoint.fileOf(name)).info(name);
  return { dtype, shape };
}

const readConfig = (path: string) => JSON.parse(readFileSync(join(path, "config.json"), "utf8"));

describe.each(Object.entries(families))("%s", (modelType, [, experts]) => {
  test("has stacks of codes, scales and biases, and gives the layers that dtype gives", async () => {
    const source = await write(configOf(modelType));
    const out = fresh();
    await run(source, out);
    await expectSame(out, source, "a4_g64_bf16");
    const stack = `model.layers.1.${experts}`;
    expect(await infoOf(out, `${stack}.up_proj.weight`)).toEqual({ dtype: "U32", shape: [E, I, H / 8] });
    expect(await infoOf(out, `${stack}.down_proj.scales`)).toEqual({ dtype: "BF16", shape: [E, H, I / 64] });
    expect(await infoOf(out, `${stack}.gate_proj.biases`)).toEqual({ dtype: "BF16", shape: [E, I, H / 64] });
    await using written = await ShardedCheckpoint.open(out);
    await using from = await ShardedCheckpoint.open(source);
    const names = [...written.shards.keys()];
    expect(names.some((name) => /experts\.\d/.test(name))).toBe(false);
    const kept = [...from.shards.keys()].filter((name) => !/expert.*(weight)$/.test(name));
    expect(names).toEqual(expect.arrayContaining(kept));
  });
});

describe("the layout", () => {
  test.each([2, 3, 4, 5, 6, 8].flatMap((bits) => [32, 64].map((group) => [bits, group] as const)))(
    "has %i bits in groups of %i, as config.json says",
    async (bits, group) => {
      const source = await write(configOf("qwen2_moe"));
      const out = fresh();
      const format = `a${bits}_g${group}_f16`;
      const { errors } = await run(source, out, { format });
      expect(errors).toHaveLength(2 * 3 * (E + 1));
      await expectSame(out, source, format);
      const quantization = { group_size: group, bits, mode: "affine" };
      expect(readConfig(out)).toEqual({ ...readConfig(source), quantization, quantization_config: quantization });
      const shape = [I, (H * bits) / 32];
      expect(await infoOf(out, "model.layers.0.mlp.shared_expert.up_proj.weight")).toEqual({ dtype: "U32", shape });
      for (const name of readdirSync(out).filter((name) => name.endsWith(".safetensors"))) {
        await using file = await SafetensorsFile.open(join(out, name));
        expect(file.metadata.format).toBe("mlx");
      }
    },
  );

  test("has groups of 128, and scales in float32", async () => {
    const wide = 256;
    const source = await write({ ...configOf("qwen3_moe"), hidden_size: wide, moe_intermediate_size: wide });
    const out = fresh();
    await run(source, out, { format: "a8_g128_f32" });
    using layer = await MoeLayer.load(out, { layer: 0, device });
    expect(layer.description.formats.up).toBe("a8_g128_f32");
    expect(await layerOutputs(device, out, 0)).toEqual(await layerOutputs(device, source, 0, { dtype: "a8_g128_f32" }));
  });

  test("adds its biases: code times scale plus bias is the weight", async () => {
    const source = await write(configOf("qwen3_moe"));
    const out = fresh();
    await run(source, out, { format: "a8_g64_f32" });
    await using written = await ShardedCheckpoint.open(out);
    const read = async (suffix: string) => {
      const name = `model.layers.0.mlp.switch_mlp.up_proj.${suffix}`;
      return (await (await written.fileOf(name)).read(name)).data;
    };
    const [words, scales, biases] = [await read("weight"), await read("scales"), await read("biases")];
    const codes = new Uint8Array((words as Uint32Array).buffer, (words as Uint32Array).byteOffset);
    const name = "model.layers.0.mlp.experts.2.up_proj.weight";
    await using from = await ShardedCheckpoint.open(source);
    const weights = Float32Array.from((await (await from.fileOf(name)).read(name)).data as Uint16Array, fromBF16);
    for (const [index, weight] of weights.entries()) {
      const at = 2 * I * H + index;
      const group = Math.floor(at / 64);
      const scale = (scales as Float32Array)[group] as number;
      const value = (codes[at] as number) * scale + ((biases as Float32Array)[group] as number);
      expect(Math.abs(value - weight)).toBeLessThanOrEqual(0.51 * scale);
    }
  });

  test.each([
    ["mixtral of Transformers 5", "mixtral", 2],
    ["qwen3_moe of Transformers 5", "qwen3_moe", 1],
  ])("is written from the stacks of %s", async (_, modelType, storage) => {
    const source = await write(configOf(modelType), storage);
    const out = fresh();
    await run(source, out);
    await expectSame(out, source, "a4_g64_bf16");
    const [, experts] = families[modelType] as readonly [object, string];
    expect((await infoOf(out, `model.layers.1.${experts}.up_proj.weight`)).dtype).toBe("U32");
    await using written = await ShardedCheckpoint.open(out);
    expect([...written.shards.keys()].some((name) => name.includes("gate_up_proj"))).toBe(false);
  });

  test("is resumed after an interruption, with the same result", async () => {
    const source = await write(configOf("qwen2_moe"));
    const [whole, out] = [fresh(), fresh()];
    const expected = await run(source, whole);
    const stop = new Error("stop");
    const interrupted = run(source, out, {
      onProgress: (share) => {
        if (share > 0.6) throw stop;
      },
    });
    await expect(interrupted).rejects.toBe(stop);
    expect(existsSync(join(out, "config.json"))).toBe(false);
    await expectRejection(
      run(source, out, { existing: "resume", format: "a8_g64_bf16" }),
      "BAD_CHECKPOINT",
      /it was begun with other settings: expected format a8_g64_bf16, got a4_g64_bf16; use --overwrite to begin again$/,
    );
    const resumed = await run(source, out, { existing: "resume" });
    expect(resumed.resumed).toBeGreaterThan(0);
    expect({ ...resumed, out: whole, resumed: 0 }).toEqual(expected);
    for (const name of readdirSync(whole)) {
      expect(readFileSync(join(out, name))).toEqual(readFileSync(join(whole, name)));
    }
  });
});

describe("what is refused", () => {
  const refused = async (
    config: object,
    options: Partial<QuantizeCheckpointOptions>,
    code: MoeErrorCode,
    message: RegExp,
  ) => {
    const out = fresh();
    await expectRejection(run(await write(config), out, options), code, message);
    expect(existsSync(out)).toBe(false);
  };
  const qwen = configOf("qwen3_moe");

  test("groups that MLX does not have", async () => {
    for (const format of ["a4_g16_bf16", "a4_channel_bf16"]) {
      const message = new RegExp(`^format: expected groups of 32, 64, 128 columns, as MLX has them, got ${format}$`);
      await refused(qwen, { format }, "UNSUPPORTED_DTYPE", message);
    }
  });

  test("GGUF's blocks of the same values, which are for a GGUF file", async () => {
    await refused(
      qwen,
      { format: "q4_1" },
      "UNSUPPORTED_DTYPE",
      /a GGUF file has it: choose a name that ends in \.gguf$/,
    );
  });

  test("columns that are no whole groups", async () => {
    await refused(
      qwen,
      { format: "a4_g128_bf16" },
      "UNSUPPORTED_OPERATION",
      /gate_proj\.weight": expected columns in whole groups of 128, got 64; choose smaller groups$/,
    );
  });

  test("some layers of a model whose experts are rearranged", async () => {
    await refused(qwen, { layers: [1] }, "INVALID_ARGUMENT", /layers: expected all layers with experts \(0, 1\)/);
  });

  test("families that are not known to mlx-lm under these names", async () => {
    await refused(
      { ...common, model_type: "granitemoe", num_local_experts: E },
      {},
      "UNSUPPORTED_OPERATION",
      /config\.json: expected one of the families whose experts are written for MLX \(mixtral, .*\), got granitemoe$/,
    );
  });

  test("gpt-oss, whose experts have a layout of their own", async () => {
    const config = { ...common, model_type: "gpt_oss", num_local_experts: E };
    await refused(
      config,
      {},
      "UNSUPPORTED_DTYPE",
      /^format: expected mxfp4, the only format in which other software reads the experts of gpt_oss,/,
    );
  });
});
