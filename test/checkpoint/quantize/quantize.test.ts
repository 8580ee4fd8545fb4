import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { Model } from "../../../lib/checkpoint/model.js";
import {
  type QuantizeCheckpointOptions,
  quantizeCheckpoint,
} from "../../../lib/checkpoint/quantize/quantize_checkpoint.js";
import {
  SafetensorsFile,
  type SafetensorsInput,
  ShardedCheckpoint,
  writeSafetensors,
} from "../../../lib/checkpoint/safetensors/index.js";
import { declaredTokens } from "../../../lib/checkpoint/schemes/checkpoint_tokens.js";
import { toBF16 } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { quantizationError, quantize } from "../../../lib/index.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { expectRejection } from "../../support/errors.js";
import { layerOutputs, type OutputOptions } from "../support/layer_outputs.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const [H, I, E, layers] = [64, 128, 3, 2];
const directory = temporaryDirectory();
const device = openDevice("reference");
afterAll(() => {
  device.dispose();
  directory[Symbol.dispose]();
});

const config = {
  model_type: "qwen2_moe",
  num_hidden_layers: layers,
  hidden_size: H,
  moe_intermediate_size: I,
  shared_expert_intermediate_size: 2 * I,
  num_experts: E,
  num_experts_per_tok: 2,
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  torch_dtype: "bfloat16",
};

/** A model of two layers in two shards, with an attention matrix, norms and a tokenizer. */
async function writeModel(name: string, changes: object = {}): Promise<string> {
  const path = join(directory.path, name);
  mkdirSync(path);
  const random = new Random("model");
  const bf16 = (...shape: number[]): SafetensorsInput => {
    const count = shape.reduce((product, size) => product * size, 1);
    const data = Uint16Array.from(random.normals(count, (shape.at(-1) as number) ** -0.5), toBF16);
    return { dtype: "BF16", shape, data };
  };
  const weightMap: Record<string, string> = {};
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`;
    const tensors: Record<string, SafetensorsInput> = {
      [`${prefix}.input_layernorm.weight`]: bf16(H),
      [`${prefix}.self_attn.q_proj.weight`]: bf16(H, H),
      [`${prefix}.mlp.gate.weight`]: bf16(E, H),
      [`${prefix}.mlp.shared_expert_gate.weight`]: bf16(1, H),
    };
    const expert = (block: string, inner: number) => {
      tensors[`${block}.gate_proj.weight`] = bf16(inner, H);
      tensors[`${block}.up_proj.weight`] = bf16(inner, H);
      tensors[`${block}.down_proj.weight`] = bf16(H, inner);
    };
    for (let index = 0; index < E; index++) expert(`${prefix}.mlp.experts.${index}`, I);
    expert(`${prefix}.mlp.shared_expert`, 2 * I);
    const shard = `model-0000${layer + 1}-of-00002.safetensors`;
    await writeSafetensors(join(path, shard), tensors);
    for (const tensor of Object.keys(tensors)) weightMap[tensor] = shard;
  }
  writeFileSync(join(path, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
  writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, ...changes }));
  writeFileSync(join(path, "tokenizer.json"), '{"version": "1.0"}');
  for (const name of ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "model.gguf"]) {
    writeFileSync(join(path, name), "the original's weights");
  }
  mkdirSync(join(path, "original"));
  return path;
}

const source = await writeModel("source");
const { fresh } = directory;

function run(from: string, out: string, options: Partial<QuantizeCheckpointOptions> = {}) {
  const defaults = { device, format: "int4_g32", scale: "largest", existing: "refuse", onProgress: () => {} } as const;
  return quantizeCheckpoint(from, { ...defaults, ...options, out });
}

const outputs = (path: string, options?: OutputOptions) => layerOutputs(device, path, 1, options);

async function readTensors(path: string): Promise<Map<string, SafetensorsInput>> {
  await using file = await SafetensorsFile.open(path);
  const tensors = new Map<string, SafetensorsInput>();
  for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  return tensors;
}

function json(...path: string[]) {
  return JSON.parse(readFileSync(join(...path), "utf8"));
}

describe("a quantised checkpoint", () => {
  test.each([
    ["int4_g32", "pack-quantized", 0.3],
    ["int3_g16", "pack-quantized", 0.6],
    ["uint4_g32", "pack-quantized", 0.3],
    ["uint3_channel", "pack-quantized", 0.8],
    ["int8", "pack-quantized", 0.02],
    ["uint8_g16", "pack-quantized", 0.02],
    ["fp8", "float-quantized", 0.12],
    ["fp8_b128", "float-quantized", 0.12],
    ["mxfp8", "mxfp8-quantized", 0.12],
    ["mxfp4", "mxfp4-pack-quantized", 0.4],
    ["nvfp4", "nvfp4-pack-quantized", 0.3],
  ])("in %s gives the layers that dtype gives", async (format, packing, tolerance) => {
    const out = fresh();
    const { errors, bytesAfter, bytesBefore } = await run(source, out, { format });
    expect(json(out, "config.json").quantization_config).toMatchObject({
      quant_method: "compressed-tensors",
      format: packing,
    });
    const y = await outputs(out);
    expect(y).toEqual(await outputs(source, { dtype: format }));
    const error = relativeError(y, await outputs(source));
    expect(error).toBeLessThan(tolerance);
    expect(error).toBeGreaterThan(0);
    expect(errors).toHaveLength(layers * 3 * (E + 1));
    expect(bytesAfter).toBeLessThan(0.75 * bytesBefore);
  });

  test.each([
    ["fp8", "token", { format: "fp8", columns: 0 }],
    ["fp8_b128", "group", { format: "fp8", columns: 128 }],
    ["int8", undefined, undefined],
  ])(
    "in %s says what other software does to tokens, which is done here only if asked for",
    async (format, how, tokens) => {
      const out = fresh();
      await run(source, out, { format });
      const { input_activations: inputs } = json(out, "config.json").quantization_config.config_groups.group_0;
      expect(inputs?.strategy).toBe(how);
      expect(declaredTokens((await Model.read(out)).quantization)).toEqual(tokens);
      for (const tokenFormat of [undefined, "checkpoint"] as const) {
        using layer = await MoeLayer.load(out, { layer: 0, device, ...(tokenFormat && { tokenFormat }) });
        expect(layer.description.tokenFormat).toBe((tokenFormat && tokens?.format) ?? "none");
      }
    },
  );

  test("in nvfp4 has one scale of scales for gate and up, as other software multiplies both by gate's", async () => {
    const path = await writeModel("loud");
    const shard = join(path, "model-00002-of-00002.safetensors");
    const tensors = await readTensors(shard);
    for (const [name, { data }] of tensors) {
      if (!name.endsWith(".up_proj.weight")) continue;
      for (const [index, bits] of (data as Uint16Array).entries()) (data as Uint16Array)[index] = bits + (3 << 7);
    }
    rmSync(shard);
    await writeSafetensors(shard, tensors);
    const out = fresh();
    using reads = vi.spyOn(SafetensorsFile.prototype, "readRange");
    const { errors, files } = await run(path, out, { format: "nvfp4" });
    const read = reads.mock.calls.map(([name]) => name).filter((name) => name.includes("expert"));
    expect(read, "each matrix is read once").toHaveLength(new Set(read).size);
    expect(errors).toHaveLength(3 * (E + 1) * layers);
    expect(Math.max(...errors.map(({ error }) => error))).toBeLessThan(0.15);
    const written = await readTensors(join(out, `model-0000${files}-of-0000${files}.safetensors`));
    const scales = [...written].filter(([name]) => name.endsWith(".gate_proj.weight_global_scale"));
    expect(scales).toHaveLength(E + 1);
    for (const [name, scale] of scales) expect(scale).toEqual(written.get(name.replace("gate_proj", "up_proj")));
    expect(await outputs(out)).toEqual(await outputs(path, { dtype: "nvfp4" }));
  });

  test("has every other tensor, file and field as it was", async () => {
    const out = fresh();
    const shares: number[] = [];
    const written = await run(source, out, { onProgress: (share) => shares.push(share) });
    const { quantization_config: quantization, ...rest } = json(out, "config.json");
    expect(rest).toEqual(config);
    expect(quantization.config_groups.group_0).toMatchObject({
      targets: ["Linear"],
      weights: { num_bits: 4, type: "int", strategy: "group", group_size: 32, symmetric: true },
      input_activations: null,
    });
    expect(quantization.ignore).toEqual(
      [0, 1].flatMap((layer) =>
        ["mlp.gate", "mlp.shared_expert_gate", "self_attn.q_proj"].map((name) => `model.layers.${layer}.${name}`),
      ),
    );
    expect(json(out, "tokenizer.json")).toEqual({ version: "1.0" });
    expect(shares.at(-1)).toBe(1);
    const { weight_map: weightMap, metadata } = json(out, "model.safetensors.index.json");
    expect(metadata.total_size).toBe(written.bytesAfter);
    const names = new Set<string>(Object.values(weightMap));
    expect(readdirSync(out).sort()).toEqual(
      ["config.json", "model.safetensors.index.json", "tokenizer.json", ...names].sort(),
    );
    const kept = "model.layers.1.self_attn.q_proj.weight";
    await using before = await SafetensorsFile.open(join(source, "model-00002-of-00002.safetensors"));
    await using after = await SafetensorsFile.open(join(out, weightMap[kept]));
    expect(await after.read(kept)).toEqual(await before.read(kept));
    const packed = "model.layers.1.mlp.experts.2.down_proj.weight";
    expect(
      Object.keys(weightMap)
        .filter((name) => name.startsWith(packed))
        .sort(),
    ).toEqual(["packed", "scale", "shape"].map((suffix) => `${packed}_${suffix}`));
  });

  test("keeps numbers of config.json that JSON does not have", async () => {
    const path = await writeModel("python");
    const given = JSON.stringify({ ...config, time_step_limit: [0, 1] }).replace("[0,1]", "[NaN,-Infinity,Infinity]");
    writeFileSync(join(path, "config.json"), given);
    const out = fresh();
    await run(path, out);
    expect(readFileSync(join(out, "config.json"), "utf8")).toMatch(/\[\s*NaN,\s*-Infinity,\s*Infinity\s*\]/);
    expect((await Model.read(out)).fields.value("time_step_limit")).toEqual([Number.NaN, -Infinity, Infinity]);
  });

  test("leaves out links that lead nowhere, as in a folder of huggingface_hub's cache", async () => {
    const path = await writeModel("links");
    symlinkSync(join(path, "none"), join(path, "special_tokens_map.json"));
    symlinkSync(join(source, "tokenizer.json"), join(path, "vocab.json"));
    const out = fresh();
    await run(path, out);
    expect(json(out, "vocab.json")).toEqual({ version: "1.0" });
    expect(existsSync(join(out, "config.json"))).toBe(true);
    expect(readdirSync(out)).not.toContain("special_tokens_map.json");
  });

  test("lists tensors of any name", async () => {
    const model = await writeModel("named");
    const index = json(model, "model.safetensors.index.json");
    const extra: SafetensorsInput = { dtype: "BF16", shape: [2], data: Uint16Array.of(1, 2) };
    await writeSafetensors(join(model, "extra.safetensors"), new Map([["__proto__", extra]]));
    const shards = [...Object.entries(index.weight_map), ["__proto__", "extra.safetensors"]];
    const weightMap = Object.fromEntries(shards);
    writeFileSync(join(model, "model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
    const out = fresh();
    await run(model, out);
    await using written = await ShardedCheckpoint.open(out);
    const file = await written.fileOf("__proto__");
    expect(await file.read("__proto__")).toEqual(extra);
  });

  test("tells the errors of its matrices, which are less by least squares", async () => {
    const largest = await run(source, fresh());
    const out = fresh();
    const least = await run(source, out, { scale: "least_squares" });
    for (const [index, { error }] of least.errors.entries()) {
      expect(error).toBeLessThanOrEqual(largest.errors[index]?.error as number);
    }
    await using file = await SafetensorsFile.open(join(source, "model-00001-of-00002.safetensors"));
    const { data } = await file.read("model.layers.0.mlp.experts.1.up_proj.weight");
    using values = device.tensor(data as Uint16Array, [I, H], "bf16");
    using weight = quantize(values, "int4_g32", { scale: "least_squares" });
    const place = least.errors.find((one) => one.layer === 0 && one.place === "experts[1].up");
    expect(place?.error).toBe((await quantizationError(values, weight).data())[0]);
  });

  test("can have some layers quantised only", async () => {
    const out = fresh();
    const { errors } = await run(source, out, { layers: [1] });
    expect(new Set(errors.map(({ layer }) => layer))).toEqual(new Set([1]));
    expect(json(out, "config.json").quantization_config.ignore).toContain("model.layers.0.mlp.experts.2.up_proj");
    expect(await outputs(out)).toEqual(await outputs(source, { dtype: "int4_g32" }));
    using layer = await MoeLayer.load(out, { layer: 0, device });
    expect(layer.description.formats.up).toBe("bf16");
  });

  test("of a golden model has the results of its authors", async () => {
    const golden = "test/golden/families/qwen3_moe";
    await using expected = await SafetensorsFile.open(join(golden, "expected.safetensors"));
    const read = async (name: string) => await expected.read(name);
    const tokens = await read("x");
    const output = await read("output");
    using input = device.tensor(tokens.data as Float32Array, tokens.shape);
    for (const [format, tolerance] of [
      ["int8", 0.02],
      ["fp8_b128", 0.08],
    ] as const) {
      const out = fresh();
      await run(golden, out, { format, layers: [3] });
      using layer = await MoeLayer.load(out, { layer: 3, device });
      using y = layer.forward(input);
      expect(relativeError(y.dataSync(), output.data as Float64Array)).toBeLessThan(tolerance);
    }
  });
});

describe("of families whose weights are put together", () => {
  test.each(["inkling", "inkling_transformers", "grove_moe", "moondream3"])("%s is refused", async (name) => {
    await expectRejection(
      run(`test/golden/families/${name}`, fresh(), { format: "int8", layers: [1] }),
      "UNSUPPORTED_OPERATION",
      /expected experts of which each has matrices of its own in one set of tensors, got \w+; MoeLayer\.load can quantise them, with its option dtype/,
    );
  });

  test("the shared expert that two layers of ERNIE 4.5 VL have in common is written once", async () => {
    const [text, images] = ["ernie4_5_moe_vl", "ernie4_5_moe_vl_images"].map((name) => `test/golden/families/${name}`);
    await using first = await SafetensorsFile.open(join(text as string, "model.safetensors"));
    await using second = await SafetensorsFile.open(join(images as string, "model.safetensors"));
    const tensors = new Map<string, SafetensorsInput>();
    for (const file of [first, second])
      for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
    // Both have the widths of the second's.
    for (const name of [...first.tensors.keys()].filter((name) => name.includes(".experts."))) {
      const { shape, data, dtype } = tensors.get(name) as SafetensorsInput;
      const wider = shape.map((size) => (size === 10 ? 14 : size));
      const values = Float32Array.from({ length: 14 * 18 }, (_, at) => (data as Float32Array)[at % 180] as number);
      tensors.set(name, { dtype, shape: wider, data: values } as SafetensorsInput);
    }
    const path = join(directory.path, "ernie");
    mkdirSync(path);
    writeFileSync(join(path, "config.json"), readFileSync(join(images as string, "config.json")));
    await writeSafetensors(join(path, "model.safetensors"), tensors);
    const out = fresh();
    await run(path, out, { format: "int8" });
    await using checkpoint = await ShardedCheckpoint.open(out);
    const written = [...checkpoint.shards.keys()].filter((name) => name.includes(".shared_experts."));
    expect(written.filter((name) => name.endsWith(".weight_packed") || name.endsWith(".weight"))).toHaveLength(3);
    for (const layer of [1, 3]) {
      using loaded = await MoeLayer.load(out, { layer, device });
      expect(loaded.description.formats.up).toMatch(/^i8_/);
    }
  });
});

describe("the folder", () => {
  test("must not be there, unless it is empty", async () => {
    const out = fresh();
    mkdirSync(out);
    await run(source, out);
    const before = readdirSync(out);
    await expectRejection(run(source, out), "INVALID_ARGUMENT", /^out: expected a new or empty folder, got/);
    expect(readdirSync(out)).toEqual(before);
  });

  test("is overwritten only if told, without files of others", async () => {
    const out = fresh();
    await run(source, out, { format: "int8" });
    writeFileSync(join(out, "notes.txt"), "mine");
    await run(source, out, { existing: "overwrite" });
    expect(readFileSync(join(out, "notes.txt"), "utf8")).toBe("mine");
    expect(await outputs(out)).toEqual(await outputs(source, { dtype: "int4_g32" }));
  });

  test.each(["refuse", "resume", "overwrite"] as const)(
    "with nothing but unfinished files is taken as an empty one: %s",
    async (existing) => {
      const out = fresh();
      mkdirSync(out);
      for (const name of ["moe-kernels-quantize.json", "model.safetensors"])
        writeFileSync(join(out, `${name}.${randomUUID()}.tmp`), "a crash left this");
      expect(await run(source, out, { existing })).toMatchObject({ resumed: 0 });
      expect(readdirSync(out).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    },
  );

  test("with an unfinished file of something else is not empty", async () => {
    const out = fresh();
    mkdirSync(out);
    writeFileSync(join(out, `notes.txt.${randomUUID()}.tmp`), "mine");
    await expectRejection(run(source, out), "INVALID_ARGUMENT", /^out: expected a new or empty folder/);
    await expectRejection(
      run(source, out, { existing: "resume" }),
      "INVALID_ARGUMENT",
      /^resume: expected .*, got none/,
    );
  });

  test("that cannot be written is named", async () => {
    const out = fresh();
    mkdirSync(join(out, "model.safetensors"), { recursive: true });
    const writing = run(source, out, { existing: "overwrite" });
    await expectRejection(writing, "WRITE_FAILED", /model\.safetensors: cannot be written: it is a folder$/);
  });

  test("loses the unfinished copies of a run that was killed", async () => {
    const from = await writeModel("with_vocabulary");
    writeFileSync(join(from, "tokenizer.json"), "{}");
    const out = fresh();
    await run(from, out);
    writeFileSync(join(out, `tokenizer.json.${randomUUID()}.tmp`), "{");
    writeFileSync(join(out, `notes.txt.${randomUUID()}.tmp`), "mine");
    await run(from, out, { existing: "overwrite" });
    expect(readdirSync(out).filter((name) => name.endsWith(".tmp"))).toEqual([expect.stringMatching(/^notes/)]);
    expect(readFileSync(join(out, "tokenizer.json"), "utf8")).toBe("{}");
  });

  test("is never that of the model", async () => {
    for (const existing of ["refuse", "resume", "overwrite"] as const) {
      await expectRejection(run(source, source, { existing }), "INVALID_ARGUMENT", /^out: expected another folder/);
    }
    expect(existsSync(join(source, "config.json"))).toBe(true);
  });

  test("is resumed after an interruption, with the same result", async () => {
    const whole = fresh();
    const expected = await run(source, whole);
    const out = fresh();
    const stop = new Error("stop");
    const interrupted = run(source, out, {
      onProgress: (share) => {
        if (share > 0.3) throw stop;
      },
    });
    await expect(interrupted).rejects.toBe(stop);
    expect(existsSync(join(out, "config.json"))).toBe(false);
    const inFolder = ["model-00002-of-00003.safetensors", "config.json", "moe-kernels-quantize.json"];
    for (const name of inFolder) writeFileSync(join(out, `${name}.${randomUUID()}.tmp`), "a crash left this");
    await expectRejection(run(source, out), "INVALID_ARGUMENT", /use --resume to continue an interrupted run/);
    const other = run(source, out, { existing: "resume", format: "int8" });
    await expectRejection(
      other,
      "BAD_CHECKPOINT",
      /it was begun with other settings: expected format i8_channel_f32, got i4_g32_bf16; use --overwrite to begin again$/,
    );
    await expectRejection(
      run(source, out, { existing: "resume", layers: [1] }),
      "BAD_CHECKPOINT",
      /expected layers \[1\], got \[0,1\]; use --overwrite to begin again$/,
    );
    const resumed = await run(source, out, { existing: "resume" });
    expect(resumed.resumed).toBeGreaterThan(0);
    expect({ ...resumed, out: whole, resumed: 0 }).toEqual(expected);
    expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
    for (const name of readdirSync(whole)) {
      expect(readFileSync(join(out, name))).toEqual(readFileSync(join(whole, name)));
    }
    const again = run(source, out, { existing: "resume" });
    await expectRejection(
      again,
      "INVALID_ARGUMENT",
      /^resume: expected .*, got a folder that is complete; use --overwrite/,
    );
  });
});

describe("what is refused", () => {
  const refused = async (name: string, changes: object) => {
    const path = await writeModel(name, changes);
    const out = fresh();
    return { path, promise: run(path, out), out };
  };

  test("formats that compressed-tensors does not have", async () => {
    for (const format of ["q4_k", "nf4", "iq4_xs", "fp8_g32"]) {
      const out = fresh();
      await expectRejection(
        run(source, out, { format }),
        "UNSUPPORTED_DTYPE",
        /^format: compressed-tensors has no layout/,
      );
      expect(existsSync(out)).toBe(false);
    }
    await expectRejection(
      run(source, fresh(), { format: "bf16" }),
      "UNSUPPORTED_DTYPE",
      /^format: expected a quantised/,
    );
  });

  test("formats that GGUF has, which says so", async () => {
    const promise = run(source, fresh(), { format: "q4_k" });
    await expectRejection(promise, "UNSUPPORTED_DTYPE", /a GGUF file has it: choose a name that ends in \.gguf$/);
  });

  test("files in place of folders", async () => {
    const file = join(directory.path, "file");
    writeFileSync(file, "");
    const folder = /^out: expected a folder, or a name that ends in \.gguf, got/;
    for (const out of [file, join(file, "out")]) await expectRejection(run(source, out), "INVALID_ARGUMENT", folder);
    for (const [name, got] of [
      ["model.gguf", "the name of a single file"],
      ["pytorch_model.bin", "a file of PyTorch"],
    ] as const) {
      writeFileSync(join(directory.path, name), "");
      const promise = run(join(directory.path, name), fresh());
      await expectRejection(promise, "BAD_CHECKPOINT", new RegExp(`expected a model directory.*, got ${got}`));
    }
  });

  test("columns that are no whole groups", async () => {
    await expectRejection(
      run(source, fresh(), { format: "int4_g128" }),
      "UNSUPPORTED_OPERATION",
      /whole groups of 128, got 64; choose smaller groups/,
    );
  });

  test("models that are quantised already", async () => {
    const { promise, out } = await refused("quantised", { quantization_config: { quant_method: "fp8" } });
    await expectRejection(promise, "BAD_CHECKPOINT", /expected a model of floats, got one that is quantised already$/);
    expect(existsSync(out)).toBe(false);
  });

  test("a layer that there is not, and missing weights", async () => {
    await expectRejection(run(source, fresh(), { layers: [2] }), "INVALID_ARGUMENT", /layer/);
    const { promise } = await refused("missing", { num_experts: E + 1 });
    await expectRejection(
      promise,
      "BAD_CHECKPOINT",
      /expected a tensor "model.layers.0.mlp.experts.3.gate_proj.weight"/,
    );
  });

  test("weights that are not finite", async () => {
    const path = await writeModel("infinite");
    const shard = join(path, "model-00002-of-00002.safetensors");
    const tensors = await readTensors(shard);
    const name = "model.layers.1.mlp.experts.0.up_proj.weight";
    (tensors.get(name)?.data as Uint16Array)[5] = 0x7fc0;
    rmSync(shard);
    await writeSafetensors(shard, tensors);
    await expectRejection(run(path, fresh()), "BAD_CHECKPOINT", /experts.0.up_proj.weight": expected finite weights/);
  });
});
