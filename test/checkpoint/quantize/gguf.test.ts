import { randomUUID } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { withSixBitScales } from "../../../lib/checkpoint/gguf/blocks/six_bit_scales.js";
import { blockValues } from "../../../lib/checkpoint/gguf/blocks/values.js";
import { GgufFile } from "../../../lib/checkpoint/gguf/index.js";
import { ggufTypes } from "../../../lib/checkpoint/gguf/types.js";
import { PartialFile } from "../../../lib/checkpoint/quantize/gguf/partial_file.js";
import { quantizeToGguf } from "../../../lib/checkpoint/quantize/gguf/quantize_to_gguf.js";
import type { QuantizeCheckpointOptions } from "../../../lib/checkpoint/quantize/quantize_checkpoint.js";
import { SafetensorsFile } from "../../../lib/checkpoint/safetensors/index.js";
import { weightFormat } from "../../../lib/core/formats/weight_formats.js";
import { fromBF16, fromF16 } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { quantizationError, quantize, type Tensor } from "../../../lib/index.js";
import { withIsa } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { type DecodedType, decodeBlocks } from "../../support/gguf_blocks.js";
import { familyModelPath } from "../support/family_model.js";
import {
  attention,
  common,
  E,
  families,
  H,
  headSize,
  heads,
  I,
  kvHeads,
  layers,
  vocabulary,
  type Written,
  writeModel,
} from "../support/gguf_models.js";
import { layerOutputs, type OutputOptions } from "../support/layer_outputs.js";
import { type RandomModel, writeRandomModel } from "../support/random_model.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const directory = temporaryDirectory();
// Its results do not depend on the dtype in which a file has equal numbers, as those of AMX do.
const device = withIsa("portable", () => openDevice("cpu"));
afterAll(() => {
  device.dispose();
  directory[Symbol.dispose]();
});

const { fresh } = directory;

async function write(written: Written, changes: object = {}, more: RandomModel = {}): Promise<string> {
  const path = fresh();
  await writeModel(path, written, changes, more);
  return path;
}

function run(from: string, out: string, format: string, options: Partial<QuantizeCheckpointOptions> = {}) {
  const defaults = { device, scale: "largest", existing: "refuse", onProgress: () => {} } as const;
  return quantizeToGguf(from, { ...defaults, format, ...options, out });
}

const outputs = (path: string, layer: number, options?: OutputOptions) => layerOutputs(device, path, layer, options);

/** A tensor of the model as numbers. */
async function valuesOf(source: string, name: string): Promise<Float32Array> {
  await using file = await SafetensorsFile.open(join(source, "model.safetensors"));
  return Float32Array.from((await file.read(name)).data as Uint16Array, fromBF16);
}

async function readFloats(file: GgufFile, name: string): Promise<Float32Array> {
  const { type } = file.info(name);
  const bytes = await file.read(name);
  if (type === "F32") return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  expect(type).toBe("BF16");
  return Float32Array.from(new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2), fromBF16);
}

describe.each(Object.entries(families) as [keyof typeof families, Written][])("%s", (_, written) => {
  test.each(["q4_k", "mxfp4", "nvfp4"])("in %s gives the layers that dtype gives", async (format) => {
    const source = await write(written);
    const out = fresh(".gguf");
    if (format === "nvfp4" && !["llama", "qwen3moe"].includes(written.architecture)) {
      await expectRejection(run(source, out, format), "UNSUPPORTED_DTYPE", /^format: llama.cpp ignores the scale /);
      return;
    }
    const shares: number[] = [];
    const { errors, bytesAfter } = await run(source, out, format, { onProgress: (share) => shares.push(share) });
    for (let layer = 0; layer < layers; layer++) {
      expect(await outputs(out, layer)).toEqual(await outputs(source, layer, { dtype: format }));
    }
    expect(errors.filter(({ role }) => role.startsWith("experts."))).toHaveLength(layers * 3 * E);
    expect(shares.every((share, index) => index === 0 || share >= (shares[index - 1] as number))).toBe(true);
    expect(shares.at(-1)).toBe(1);
    await using file = await GgufFile.open(out);
    expect([...file.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(bytesAfter);
    expect(readdirSync(directory.path).filter((name) => name.includes("partial"))).toEqual([]);
  });

  test("has all other tensors under their names, and the metadata", async () => {
    const source = await write(written);
    const out = fresh(".gguf");
    await run(source, out, "q8_0");
    await using file = await GgufFile.open(out);
    const { architecture, keys } = written;
    const expected = {
      vocab_size: vocabulary,
      context_length: 4096,
      embedding_length: H,
      block_count: layers,
      feed_forward_length: I,
      "attention.head_count": heads,
      "attention.head_count_kv": kvHeads,
      "attention.layer_norm_rms_epsilon": Math.fround(1e-5),
      "rope.freq_base": 10000,
      expert_count: E,
      expert_used_count: 2,
      ...keys,
    };
    expect(Object.fromEntries(file.metadata)).toEqual({
      "general.architecture": architecture,
      "general.type": "model",
      "general.name": source.split("/").at(-1),
      "general.file_type": 7,
      "general.quantization_version": 2,
      "tokenizer.ggml.model": "none",
      ...Object.fromEntries(Object.entries(expected).map(([key, value]) => [`${architecture}.${key}`, value])),
    });
    const names: Readonly<Record<string, string>> = {
      "model.embed_tokens.weight": "token_embd.weight",
      "model.norm.weight": "output_norm.weight",
      "lm_head.weight": "output.weight",
      "input_layernorm.weight": "attn_norm.weight",
      "post_attention_layernorm.weight": architecture === "gpt-oss" ? "post_attention_norm.weight" : "ffn_norm.weight",
      "self_attn.q_proj.weight": "attn_q.weight",
      "self_attn.k_proj.weight": "attn_k.weight",
      "self_attn.v_proj.weight": "attn_v.weight",
      "self_attn.o_proj.weight": "attn_output.weight",
      "self_attn.q_proj.bias": "attn_q.bias",
      "self_attn.k_proj.bias": "attn_k.bias",
      "self_attn.v_proj.bias": "attn_v.bias",
      "self_attn.o_proj.bias": "attn_output.bias",
      "self_attn.q_norm.weight": "attn_q_norm.weight",
      "self_attn.k_norm.weight": "attn_k_norm.weight",
      "self_attn.sinks": "attn_sinks.weight",
    };
    await using before = await SafetensorsFile.open(join(source, "model.safetensors"));
    let others = 0;
    for (const [name, { shape }] of before.tensors) {
      const [, layer, rest] = /^model\.layers\.(\d+)\.(self_attn\..*|\w+_layernorm\.weight)$/.exec(name) ?? [];
      const target = names[rest ?? name];
      if (target === undefined) continue;
      const written = layer === undefined ? target : `blk.${layer}.${target}`;
      others++;
      expect(file.info(written)).toMatchObject({ shape, type: shape.length === 1 ? "F32" : "BF16" });
      const isAlternating = ["llama", "granitemoe"].includes(architecture) && /attn_[qk]\.weight/.test(target);
      const values = await valuesOf(source, name);
      expect(difference(await readFloats(file, written), isAlternating ? alternating(values) : values)).toBe(-1);
    }
    expect(others).toBe(layers * Object.keys(written.layer as object).length + (architecture === "granitemoe" ? 2 : 3));
    const router = [...before.tensors.keys()].find((name) =>
      /layers\.1\..*(gate|router|router\.layer)\.weight$/.test(name),
    );
    expect(file.info("blk.1.ffn_gate_inp.weight").type).toBe("F32");
    expect(await readFloats(file, "blk.1.ffn_gate_inp.weight")).toEqual(await valuesOf(source, router as string));
    expect(file.info("blk.1.ffn_down_exps.weight")).toMatchObject({ type: "Q8_0", shape: [E, H, I] });
  });
});

/** The first place where two lists differ; -1 if there is none. */
function difference(a: Float32Array, b: Float32Array): number {
  return a.length === b.length ? a.findIndex((value, index) => value !== b[index]) : 0;
}

/** Rotary positions rotate row i of a head with row i + size / 2; in the file the two are neighbours. */
function alternating(values: Float32Array): Float32Array {
  const target = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += headSize * H) {
    for (let pair = 0; pair < headSize / 2; pair++) {
      for (const half of [0, 1]) {
        const from = start + (half * (headSize / 2) + pair) * H;
        target.set(values.subarray(from, from + H), start + (2 * pair + half) * H);
      }
    }
  }
  return target;
}

describe("formats", () => {
  test.each(["q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q5_k", "q6_k", "iq4_nl", "mxfp4"])(
    "%s keeps its bits",
    async (format) => {
      const source = await write(families.mixtral);
      const out = fresh(".gguf");
      await run(source, out, format, { scale: "least_squares", layers: [1] });
      const expected = await outputs(source, 1, { dtype: format, quantize: { scale: "least_squares" } });
      expect(await outputs(out, 1)).toEqual(expected);
      await using file = await GgufFile.open(out);
      expect(file.info("blk.0.ffn_gate_exps.weight").type).toBe("BF16");
      expect(await outputs(out, 0)).toEqual(await outputs(source, 0));
    },
  );

  test.each([
    ["q3_k", "Q3_K"],
    ["iq4_xs", "IQ4_XS"],
  ] as const)("%s gets scales of 6 bits, and new codes", async (format, type) => {
    const source = await write(families.mixtral);
    const out = fresh(".gguf");
    const { errors } = await run(source, out, format);
    await using file = await GgufFile.open(out);
    for (const [role, matrix] of [
      ["gate", "w1"],
      ["down", "w2"],
    ] as const) {
      const bytes = await file.read(`blk.1.ffn_${role}_exps.weight`);
      const decoded = decodeBlocks(type as DecodedType, bytes, ggufTypes[type]);
      for (let expert = 0; expert < E; expert++) {
        const values = await valuesOf(source, `model.layers.1.block_sparse_moe.experts.${expert}.${matrix}.weight`);
        const own = decoded.subarray(expert * values.length, (expert + 1) * values.length);
        const sum = (of: (value: number, index: number) => number) =>
          values.reduce((total, value, index) => total + of(value, index) ** 2, 0);
        const error = Math.sqrt(sum((value, index) => value - (own[index] as number)) / sum((value) => value));
        const stated = errors.find((one) => one.layer === 1 && one.place === `experts[${expert}].${role}`);
        expect(stated?.error).toBeCloseTo(error, 6);
        using tensor = device.tensor(values, [role === "gate" ? I : H, role === "gate" ? H : I]);
        using weight = quantize(tensor, format);
        // With scales of 8 bits.
        const [finer] = await quantizationError(tensor, weight).data();
        expect(error).toBeLessThan(1.05 * (finer as number));
        expect(error).toBeGreaterThan(0.9 * (finer as number));
      }
    }
    expect((await outputs(out, 1)).every(Number.isFinite)).toBe(true);
  });

  test("a matrix of zeros in blocks with scales of 6 bits is zeros", async () => {
    const source = await write(families.mixtral);
    const path = join(source, "model.safetensors");
    const bytes = readFileSync(path);
    await using before = await SafetensorsFile.open(path);
    const { byteOffset, byteLength } = before.info("model.layers.0.block_sparse_moe.experts.1.w2.weight");
    writeFileSync(path, bytes.fill(0, byteOffset, byteOffset + byteLength));
    const out = fresh(".gguf");
    const { errors } = await run(source, out, "q3_k");
    expect(errors.find((one) => one.layer === 0 && one.place === "experts[1].down")?.error).toBe(0);
    await using file = await GgufFile.open(out);
    const blocks = await file.read("blk.0.ffn_down_exps.weight");
    const own = blocks.subarray(blocks.length / E, (2 * blocks.length) / E);
    expect(decodeBlocks("Q3_K", own, ggufTypes.Q3_K).every((value) => value === 0)).toBe(true);
  });

  test.each(["q3_k", "iq4_xs"])(
    "values beyond %s with scales of 6 bits become the largest there are",
    async (format) => {
      const values = new Float32Array(256).fill(3e8);
      using matrix = device.tensor(values, [1, 256]);
      using weight = quantize(matrix, format);
      const [codes, scales] = [await weight.codes.raw(), await (weight.scales as Tensor<"u8">).raw()];
      const superScales = await (weight.superScales as Tensor<"f16">).raw();
      const { bytes, error } = withSixBitScales(weightFormat(format), values, { codes, scales, superScales });
      expect(error).toBeLessThan(1);
      expect([...(bytes.superScales as Uint16Array)].map(fromF16)).toEqual([65504]);
      const largest = blockValues(format, bytes, [1, 256]);
      expect([...largest]).toEqual(new Array(256).fill((format === "q3_k" ? 3 : 113) * 31 * 65504));
    },
  );
});

describe("the file", () => {
  test("is not replaced without being told", async () => {
    const source = await write(families.olmoe);
    const out = fresh(".gguf");
    writeFileSync(out, "mine");
    await expectRejection(run(source, out, "q8_0"), "INVALID_ARGUMENT", /^out: \S+ already exists; use --resume /);
    expect(readFileSync(out, "utf8")).toBe("mine");
    await run(source, out, "q8_0", { existing: "overwrite" });
    expect(await outputs(out, 0)).toEqual(await outputs(source, 0, { dtype: "q8_0" }));
    await expectRejection(
      run(source, out, "q8_0", { existing: "resume" }),
      "INVALID_ARGUMENT",
      /^resume: expected .*, got a file that is complete; use --overwrite/,
    );
  });

  test.each(["q4_0", "nvfp4"])("in %s is resumed after an interruption, with the same bytes", async (format) => {
    const source = await write(families.qwen3_moe);
    const complete = fresh(".gguf");
    const shares: number[] = [];
    const expected = await run(source, complete, format, { onProgress: (share) => shares.push(share) });
    // The last piece, after which only the file's end is told, has the scales of those before it, if there are such.
    for (const limit of [0.001, 0.6, 0.95, shares.at(-3) as number]) {
      const out = fresh(".gguf");
      const stop = new Error("stop");
      const onProgress = (share: number) => {
        if (share > limit) throw stop;
      };
      await expect(run(source, out, format, { onProgress })).rejects.toBe(stop);
      expect(existsSync(out)).toBe(false);
      await expectRejection(run(source, out, format), "INVALID_ARGUMENT", /use --resume to continue /);
      await expectRejection(
        run(source, out, "q8_0", { existing: "resume" }),
        "BAD_CHECKPOINT",
        /it was begun with other settings: expected format i8_g32_f16, got \S+; use --overwrite to begin again$/,
      );
      const resumed = await run(source, out, format, { existing: "resume" });
      expect(resumed.resumed > 0).toBe(limit > 0.1);
      expect({ ...resumed, out: complete, resumed: 0 }).toEqual(expected);
      expect(readFileSync(out).equals(readFileSync(complete))).toBe(true);
    }
  });
});

test("a file is not resumed for a model of another name, which its header has", async () => {
  const source = await write(families.qwen3_moe);
  const out = fresh(".gguf");
  const stop = new Error("stop");
  const onProgress = (share: number) => {
    if (share > 0.6) throw stop;
  };
  await expect(run(source, out, "q4_0", { onProgress })).rejects.toBe(stop);
  const moved = fresh();
  renameSync(source, moved);
  const begun = /it was begun with other settings: expected the same header; /;
  await expectRejection(run(moved, out, "q4_0", { existing: "resume" }), "BAD_CHECKPOINT", begun);
});

describe("a process that ends while a file is begun", () => {
  const state = { format: "q8_0" };
  const open = (path: string, existing: "refuse" | "resume" | "overwrite") =>
    PartialFile.open<{ tensors: number }>(path, state, existing, { tensors: 0 });

  test("can have written any part of what is there then", async () => {
    const out = fresh(".gguf");
    await (await open(out, "refuse"))[Symbol.asyncDispose]();
    rmSync(`${out}.partial`); // as if the file itself had not been made yet
    const left = `${out}.partial.json.${randomUUID()}.tmp`;
    writeFileSync(left, "{");
    await using file = await open(out, "resume");
    expect(file.begun).toEqual({ tensors: 0 });
    await file.note({ tensors: 2 });
    expect(existsSync(left)).toBe(false);
    await using again = await open(out, "resume");
    expect(again.begun).toEqual({ tensors: 2 });
    await (await open(out, "overwrite"))[Symbol.asyncDispose]();
    await using anew = await open(out, "resume"); // nothing of the file that was overwritten counts
    expect(anew.begun).toEqual({ tensors: 0 });
  });

  test.each(["refuse", "resume", "overwrite"] as const)("can have begun nothing of it yet: %s", async (existing) => {
    const out = fresh(".gguf");
    const left = `${out}.partial.json.${randomUUID()}.tmp`;
    writeFileSync(left, "{");
    await using file = await open(out, existing);
    expect(file.begun).toEqual({ tensors: 0 });
    expect([`${out}.partial`, `${out}.partial.json`, left].map(existsSync)).toEqual([true, true, false]);
  });

  test("can have lost what was written", async () => {
    const out = fresh(".gguf");
    await using file = await open(out, "refuse");
    await file.write(Uint8Array.of(1, 2, 3), 5);
    await file.note({ tensors: 1 });
    await using resumed = await open(out, "resume");
    expect(resumed.begun).toEqual({ tensors: 1 });
    truncateSync(`${out}.partial`, 7);
    const problem =
      /\.partial: expected at least the 8 bytes that .*\.partial\.json names, got 7; use --overwrite to begin again$/;
    await expectRejection(open(out, "resume"), "BAD_CHECKPOINT", problem);
  });

  test("can have completed it already", async () => {
    const out = fresh(".gguf");
    await using file = await open(out, "refuse");
    await file.write(Uint8Array.of(1, 2, 3), 0);
    await file.note({ tensors: 1 });
    renameSync(`${out}.partial`, out);
    await expectRejection(open(out, "resume"), "INVALID_ARGUMENT", /got a file that is complete/);
    expect([...readFileSync(out)]).toEqual([1, 2, 3]);
  });
});

describe("what is refused", () => {
  const refused = async (
    promise: (out: string) => Promise<unknown>,
    code: Parameters<typeof expectRejection>[1],
    message: RegExp,
  ) => {
    const out = fresh(".gguf");
    await expectRejection(promise(out), code, message);
    expect(existsSync(out) || existsSync(`${out}.partial`)).toBe(false);
  };

  test.each(["int4_g32", "int8", "nf4"])("%s, of which GGUF has no blocks", async (format) => {
    const source = await write(families.olmoe);
    await refused(
      (out) => run(source, out, format),
      "UNSUPPORTED_DTYPE",
      /: expected q4_0, q4_1, .*, nvfp4, i2_g64_f16; for .* write a model directory/,
    );
  });

  test("a file that cannot be written", async () => {
    const source = await write(families.olmoe);
    const out = join(source, "config.json", "model.gguf");
    await expectRejection(run(source, out, "q8_0"), "WRITE_FAILED", /model\.gguf.*: cannot be written: ENOTDIR/);
  });

  test("families whose other tensors are not known", async () => {
    const source = fresh();
    await writeRandomModel(
      source,
      { ...common, model_type: "jamba", expert_layer_offset: 0, expert_layer_period: 1 },
      {},
    );
    await refused(
      (out) => run(source, out, "q8_0"),
      "UNSUPPORTED_OPERATION",
      /^expected a family that can be written as GGUF \(mixtral, .*\), got jamba;/,
    );
  });

  test.each([
    ["gemma4", "gemma4_text"],
    ["deepseek_v4", "deepseek_v4"],
  ])("%s, of which only the names of the experts' block are known", async (model, family) => {
    const message = new RegExp(`^expected a family that can be written as GGUF \\(mixtral, .*\\), got ${family};`);
    await refused((out) => run(familyModelPath(model), out, "q8_0"), "UNSUPPORTED_OPERATION", message);
  });

  test("tensors that have no name there, and missing ones", async () => {
    const { layer } = families.qwen3_moe;
    const more = await write(families.qwen3_moe, {}, { layer: { ...layer, "self_attn.extra.weight": [3] } });
    await refused(
      (out) => run(more, out, "q8_0"),
      "UNSUPPORTED_OPERATION",
      /tensor "model.layers.0.self_attn.extra.weight": expected a tensor that has a name in GGUF files of qwen3moe$/,
    );
    const fewer = await write(families.qwen3_moe, {}, { layer: attention });
    await refused(
      (out) => run(fewer, out, "q8_0"),
      "BAD_CHECKPOINT",
      /expected a tensor "model.layers.0.self_attn.q_norm.weight", got none/,
    );
  });

  test("formulas that metadata cannot tell", async () => {
    for (const [family, changes, message] of [
      [
        "qwen3_moe",
        { norm_topk_prob: false },
        /imply normalize true, but this model has false, which GGUF has no metadata for$/,
      ],
      ["mixtral", { hidden_act: "gelu" }, /imply activation "swiglu", but this model has "geglu"/],
      ["gpt_oss", { swiglu_limit: 5 }, /imply clamp /],
    ] as const) {
      const source = await write(families[family], changes);
      await refused((out) => run(source, out, "q8_0"), "UNSUPPORTED_OPERATION", message);
    }
  });

  test("configurations that other software would read in another way", async () => {
    for (const [family, changes, message] of [
      [
        "mixtral",
        { rope_scaling: { type: "dynamic", factor: 2 } },
        /rope_scaling: expected scaling of the type .* got "dynamic"/,
      ],
      ["mixtral", { rope_scaling: { type: "yarn", mscale: 2 } }, /rope_scaling: .* got a field "mscale"/],
      ["mixtral", { sliding_window: 4096 }, /sliding_window: expected null, got 4096/],
      ["qwen2_moe", { use_sliding_window: true }, /use_sliding_window: expected false, got true/],
      ["qwen2_moe", { tie_word_embeddings: true }, /tie_word_embeddings: expected false, got true/],
      ["olmoe", { clip_qkv: 8 }, /clip_qkv: expected null, got 8/],
      ["olmoe", { num_key_value_heads: 2 }, /num_key_value_heads: expected 4, got 2/],
      ["olmoe", { vocab_size: null }, /vocab_size/],
      ["olmoe", { vocab_size: 2 ** 40 }, /vocab_size: expected an integer from 1 to 4194304, got 1099511627776/],
      [
        "olmoe",
        { max_position_embeddings: 2 ** 32 },
        /context_length in GGUF: expected an integer below 2\^32, got 4294967296/,
      ],
      ["olmoe", { rope_theta: 1e39 }, /rope.freq_base in GGUF: expected a float32, got 1e\+39/],
      ["mixtral", { partial_rotary_factor: 0.5 }, /partial_rotary_factor: expected 1, got 0.5/],
      [
        "mixtral",
        { rope_parameters: { rope_theta: 1e4, partial_rotary_factor: 0.5 } },
        /rope_parameters: partial_rotary_factor: expected 1, got 0.5/,
      ],
      ["mixtral", { num_attention_heads: 256 }, /expected 256 heads of an even number of rows, got shape/],
      [
        "olmoe",
        { layer_types: ["full_attention", "sliding_attention"] },
        /layer_types\[1\]: expected "full_attention"/,
      ],
      ["gpt_oss", { layer_types: ["full_attention"] }, /layer_types\[0\]: expected "sliding_attention"/],
    ] as const) {
      const source = await write(families[family], changes);
      await refused((out) => run(source, out, "q8_0"), "BAD_CHECKPOINT", message);
    }
  });

  test("dense layers, columns that are no whole blocks, and models that are quantised already", async () => {
    const dense = await write(families.qwen3_moe, { mlp_only_layers: [0] });
    await refused((out) => run(dense, out, "q8_0"), "UNSUPPORTED_OPERATION", /got a dense layer 0$/);
    const narrow = await write(families.olmoe, { intermediate_size: 96 });
    await refused(
      (out) => run(narrow, out, "q4_k"),
      "UNSUPPORTED_OPERATION",
      /expected columns in whole blocks of 256 for Q4_K, got 96; blocks of q8_0/,
    );
    const done = await write(families.olmoe, { quantization_config: { quant_method: "fp8" } });
    await refused((out) => run(done, out, "q8_0"), "BAD_CHECKPOINT", /quantised already$/);
  });
});
