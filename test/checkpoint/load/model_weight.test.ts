import { copyFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  type Device,
  dequantize,
  groupedGemm,
  linear,
  MoeLayer,
  type MoeLayerOptions,
  openDevice,
  openModel,
  type Progress,
  packExperts,
  type StoredRole,
  Tensor,
} from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { randomLayer, valuesOf, writeOne } from "../support/gguf_layer.js";
import { rawSafetensors } from "../support/raw_safetensors.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const root = "test/golden/quantised";

/** The weights of a layer without shared experts, by role. */
async function weightsOf(path: string): Promise<readonly StoredRole[] | undefined> {
  await using model = await openModel(path);
  const { groups } = await model.inspect({ layer: 0, tokens: [1] });
  const roles = groups[0]?.storage?.roles as readonly StoredRole[];
  return roles.some(({ role }) => role.startsWith("shared")) ? undefined : roles;
}

/** Those whose gate and up have scales that only a layer can give to each. */
const joined = ["fp8_blocks_stacked", "fp8_blocks_stacked_inputs_first", "fp8_stacked_halves"];

const cases: (readonly [name: string, roles: readonly StoredRole[]])[] = [];
for (const entry of readdirSync(root, { withFileTypes: true })) {
  const roles =
    entry.isDirectory() && !joined.includes(entry.name) ? await weightsOf(join(root, entry.name)) : undefined;
  if (roles !== undefined) cases.push([entry.name, roles]);
}

/** A layer whose weights were read one by one. */
async function layerOfWeights(path: string, roles: readonly StoredRole[], device: Device): Promise<MoeLayer> {
  await using model = await openModel(path);
  const { config } = model.layer(0);
  const read = async ({ name, shape }: StoredRole, expert = 0) => {
    const stored = name.replaceAll("{e}", String(expert));
    expect(model.hasWeight(stored)).toBe(true);
    return await model.weight(stored, { device, shape });
  };
  /** As experts take it: floats are in the order of the files. */
  const ofExperts = async (role: StoredRole, name: string, expert?: number) => {
    const weight = await read(role, expert);
    const { part, stacked } = role.layout;
    if (!(weight instanceof Tensor)) return { ...weight, part };
    if (name.endsWith("Bias")) return { tensor: weight, part, stacked };
    const inputs = name === "down" ? config.intermediateSize : config.hiddenSize;
    return { tensor: weight, part, stacked, orient: weight.shape.at(-1) === inputs ? "out_in" : "in_out" };
  };
  const options: Record<string, unknown> = {};
  const single: Record<string, unknown>[] = Array.from({ length: config.numExperts }, () => ({}));
  const stacks: Record<string, unknown> = {};
  for (const role of roles) {
    const [set, ofExpert] = role.role.split(".") as [string, string | undefined];
    if (ofExpert === undefined) {
      const weight = await read(role);
      options[set] = weight instanceof Tensor ? weight : dequantize(weight);
    } else if (role.layout.stacked) {
      stacks[ofExpert] = await ofExperts(role, ofExpert);
    } else {
      for (const [index, expert] of single.entries()) expert[ofExpert] = await ofExperts(role, ofExpert, index);
    }
  }
  const experts = Object.keys(stacks).length > 0 ? stacks : single;
  return MoeLayer.create({ ...config, ...options, device, experts, dtype: {} } as unknown as MoeLayerOptions);
}

describe("weights of a model", () => {
  const device = openForTests("cpu");

  test("are of most ways in which files store them", () => {
    expect(cases.length).toBeGreaterThan(55);
    expect(cases.filter(([, roles]) => roles.some(({ shape }) => shape.length === 3)).length).toBeGreaterThan(8);
  });

  // Experts stand for any matrix here, and those in one tensor for any stack.
  test.each(cases)("%s", async (name, roles) => {
    const path = join(root, name);
    using loaded = await MoeLayer.load(path, { layer: 0, device: device(), dtype: {} });
    using layer = await layerOfWeights(path, roles, device());
    const { hiddenSize } = loaded.description;
    using x = device().tensor(
      Float32Array.from({ length: 3 * hiddenSize }, (_, i) => Math.sin(i)),
      [3, hiddenSize],
    );
    using expected = loaded.forward(x);
    using y = layer.forward(x);
    expect(relativeError(await y.data(), Float64Array.from(await expected.data()))).toBeLessThan(1e-6);
  });
});

describe.each(deviceNames)("weights of a GGUF file on %s", (name) => {
  const device = openForTests(name);

  test.each(["Q4_K", "Q6_K", "Q8_0", "IQ2_XXS", "MXFP4", "F16"] as const)("%s", async (type) => {
    using directory = temporaryDirectory();
    const layer = randomLayer(new Random(`weight ${type}`), { hidden: 256, shared: 256, sharedType: type });
    const path = writeOne(directory.path, layer.file);
    await using model = await openModel(path);
    const shape = [256, 256];
    const { data } = layer.file.tensors.find(({ name }) => name === "blk.0.ffn_up_shexp.weight") as {
      data: Uint8Array;
    };
    const values = valuesOf(type, data);
    const progress: Progress[] = [];
    const onProgress = (now: Progress) => void progress.push({ ...now });
    using weight = await model.weight("blk.0.ffn_up_shexp.weight", { device: device(), shape, onProgress });
    expect(progress.at(-1)).toEqual({ bytesRead: data.byteLength, bytesTotal: data.byteLength });
    using floats = weight instanceof Tensor ? weight.reshape(shape) : dequantize(weight);
    expect(relativeError(await floats.data(), values)).toBeLessThan(1e-6);
    const x = Float32Array.from({ length: 2 * 256 }, (_, i) => Math.sin(i));
    const products = Float64Array.from({ length: 2 * 256 }, (_, i) => {
      const [token, row] = [Math.floor(i / 256), i % 256];
      return x
        .subarray(token * 256, (token + 1) * 256)
        .reduce((sum, value, k) => sum + value * (values[row * 256 + k] as number), 0);
    });
    using tokens = device().tensor(x, [2, 256]);
    using packed = packExperts(weight);
    expect(packed.shape).toEqual([1, 256, 256]);
    for (const given of [weight, packed]) {
      using y = linear(tokens, given);
      expect(relativeError(await y.data(), products)).toBeLessThan(1e-5);
    }
  });

  test.each(["Q4_K", "Q6_K", "Q8_0", "IQ2_XXS", "NVFP4", "F16", "F32"] as const)("a stack of %s", async (type) => {
    using directory = temporaryDirectory();
    // Of NVFP4 each matrix has a scale of its own.
    const layer = randomLayer(new Random(`stack ${type}`), {
      inner: 32,
      up: type,
      down: "F32",
      scaled: type === "NVFP4",
    });
    await using model = await openModel(writeOne(directory.path, layer.file));
    const shape = [3, 32, 256];
    const values = layer.values.get("ffn_up_exps.weight")?.() as Float64Array;
    const bytes = layer.file.tensors
      .filter(({ name }) => name.startsWith("blk.0.ffn_up_exps."))
      .reduce((sum, { data }) => sum + (data?.byteLength as number), 0);
    const progress: Progress[] = [];
    const onProgress = (now: Progress) => void progress.push({ ...now });
    using weight = await model.weight("blk.0.ffn_up_exps.weight", { device: device(), shape, onProgress });
    expect(progress.at(-1)).toEqual({ bytesRead: bytes, bytesTotal: bytes });
    using floats = weight instanceof Tensor ? weight.reshape(weight.shape) : dequantize(weight);
    expect(floats.shape).toEqual(shape);
    expect(relativeError(await floats.data(), values)).toBeLessThan(1e-6);
    // One token for the first matrix, none for the second, and two for the last.
    const x = Float32Array.from({ length: 3 * 256 }, (_, i) => Math.sin(i));
    const products = Float64Array.from({ length: 3 * 32 }, (_, i) => {
      const [token, row] = [Math.floor(i / 32), i % 32];
      const from = ((token === 0 ? 0 : 2) * 32 + row) * 256;
      return x
        .subarray(token * 256, (token + 1) * 256)
        .reduce((sum, value, k) => sum + value * (values[from + k] ?? 0), 0);
    });
    using tokens = device().tensor(x, [3, 256]);
    using offsets = device().tensor(Int32Array.of(0, 1, 1, 3));
    using packed = packExperts(weight);
    expect(packed.shape).toEqual(shape);
    using y = groupedGemm(tokens, packed, offsets);
    expect(relativeError(await y.data(), products)).toBeLessThan(1e-5);
    const message =
      /^weight: expected (shape \[N, 256\], got \[3, 32, 256\]|a matrix or .* of one expert .*, got 3 experts)$/;
    for (const given of [weight, packed]) expect(() => linear(tokens, given)).toThrow(message);
  });
});

test("a weight of a GGUF file may have any name", async () => {
  using directory = temporaryDirectory();
  const { file } = randomLayer(new Random("name"), {});
  const { data } = file.tensors.find(({ type }) => type === "Q4_K") as { data: Uint8Array };
  file.tensors.push({ name: "matrix", type: "Q4_K", shape: [256, 256], data: data.subarray(0, 256 * 144) });
  await using model = await openModel(writeOne(directory.path, file));
  await using device = openDevice("cpu");
  using weight = await model.weight("matrix", { device, shape: [256, 256] });
  expect(weight).toMatchObject({ format: "q4_k", columns: 256 });
});

test("a GGUF file has the weights that can be read from it by their whole names", async () => {
  using directory = temporaryDirectory();
  await using model = await openModel(writeOne(directory.path, randomLayer(new Random("names"), {}).file));
  await using device = openDevice("cpu");
  const names = ["blk.0.ffn_up_exps.weight", "blk.0.ffn_up_exps"];
  expect(names.map((name) => model.hasWeight(name))).toEqual([true, false]);
  const reading = model.weight("blk.0.ffn_up_exps", { device, shape: [3, 256, 256] });
  await expectRejection(reading, "BAD_CHECKPOINT", /expected a tensor "blk\.0\.ffn_up_exps", got none of that name/);
});

describe("a weight that cannot be read", () => {
  const device = openForTests("cpu");
  const path = "test/golden/language_models/qwen3_moe";
  const name = "model.layers.0.self_attn.q_proj.weight";

  test("is refused by name", async () => {
    await using model = await openModel(path);
    const weight = (of: string, shape: readonly number[]) => model.weight(of, { device: device(), shape });
    await expectRejection(
      weight("q_proj", [32, 32]),
      "BAD_CHECKPOINT",
      /expected a tensor "q_proj", got none of that name/,
    );
    expect([name, "q_proj"].map((one) => model.hasWeight(one))).toEqual([true, false]);
    await expectRejection(
      weight(name, [32, 16]),
      "BAD_CHECKPOINT",
      /q_proj\.weight": expected shape \[32, 16\] from the option shape, got \[32, 32\]$/,
    );
    await expectRejection(
      weight(name, [2, 16, 32]),
      "BAD_CHECKPOINT",
      /q_proj\.weight": expected shape \[2, 16, 32\] from the option shape, got \[32, 32\]$/,
    );
    for (const shape of [[], [1, 1, 32, 32]]) {
      await expectRejection(
        weight(name, shape),
        "INVALID_ARGUMENT",
        /shape: expected \[N\], \[N, K\] or \[E, N, K\], got/,
      );
    }
    await expectRejection(
      weight("model.layers.{e}.self_attn.q_proj.weight", [32, 32]),
      "INVALID_ARGUMENT",
      /^name: expected the name of one tensor, without \{e\}, got "model/,
    );
    await expectRejection(weight(name, [32, 0]), "INVALID_ARGUMENT", /shape\[1\]: expected .*, got 0/);
    await expectRejection(weight(1 as never, [32, 32]), "INVALID_ARGUMENT", /^name: expected a string, got 1/);
    using norm = await weight("model.norm.weight", [32]);
    expect(norm).toMatchObject({ shape: [32], dtype: "bf16" });
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(model.weight(name, { device: device(), shape: [32, 32], signal })).rejects.toThrow("stop");
    await model.close();
    await expectRejection(weight(name, [32, 32]), "DISPOSED", /used after close\(\)/);
  });

  test.each([
    [
      "bf16_stacked_inputs_first",
      "gate_up_proj",
      [
        [[3, 64, 96], /expected shape \[3, 64, 96\] from the option shape, got \[3, 96, 64\]$/],
        [[2 ** 50, 96, 64], /expected shape \[1125899906842624, 96, 64\] from the option shape, got \[3, 96, 64\]$/],
        [[288, 64], /expected shape \[288, 64\] from the option shape, got \[3, 96, 64\]$/],
      ],
    ],
    [
      "fp8_stacked_halves",
      "gate_up_proj",
      [
        [[2, 64, 96], /expected shape \[2, 64, 96\] from the option shape, got \[3, 64, 96\]$/],
        [[2 ** 50, 64, 96], /expected shape \[1125899906842624, 64, 96\] from the option shape, got \[3, 64, 96\]$/],
        [[192, 96], /expected shape \[192, 96\] from the option shape, got \[3, 64, 96\]$/],
      ],
    ],
    [
      "bnb_stacked",
      "down_proj",
      [
        [
          [2 ** 50, 64, 32],
          /shape: expected \[1125899906842624, 64, 32\], experts with outputs first, got \[3, 64, 32\]$/,
        ],
      ],
    ],
    ["gpt_oss", "down_proj", [[[4, 64, 32], /expected shape \[4, 64, 1, 16\] .*, got \[3, 64, 1, 16\]$/]]],
    ["int4_packed_stacked", "down_proj", [[[2 ** 50, 64, 32], /expected .*, got/]]],
  ] as const)("a stack in %s is refused in another shape", async (directory, weight, shapes) => {
    await using model = await openModel(join(root, directory));
    for (const [shape, message] of shapes) {
      const reading = model.weight(`model.layers.0.mlp.experts.${weight}`, { device: device(), shape });
      await expectRejection(reading, "BAD_CHECKPOINT", message);
    }
  });

  test.each(["Q8_0", "F16"] as const)("a stack of GGUF's %s is refused in another shape", async (type) => {
    using directory = temporaryDirectory();
    const { file } = randomLayer(new Random("no stack"), { inner: 32, up: type, down: "F32" });
    await using model = await openModel(writeOne(directory.path, file));
    for (const shape of [
      [2, 32, 256],
      [2 ** 50, 32, 256],
      [3, 256, 32],
      [96, 256],
    ]) {
      const reading = model.weight("blk.0.ffn_up_exps.weight", { device: device(), shape });
      await expectRejection(reading, "BAD_CHECKPOINT", /expected shape .* from the option shape, got \[3, 32, 256\]$/);
    }
  });

  test("for there is no memory for it", async () => {
    using directory = temporaryDirectory();
    const [rows, columns] = [2 ** 19, 2 ** 20];
    const size = rows * columns;
    const header = {
      "a.weight_scale": { dtype: "F32", shape: [rows], data_offsets: [0, 4 * rows] },
      "a.weight": { dtype: "I8", shape: [rows, columns], data_offsets: [4 * rows, 4 * rows + size] },
    };
    const file = join(directory.path, "model.safetensors");
    const bytes = rawSafetensors(header);
    writeFileSync(file, bytes);
    truncateSync(file, bytes.length + 4 * rows + size);
    copyFileSync(join(path, "config.json"), join(directory.path, "config.json"));
    await using model = await openModel(directory.path);
    const reading = model.weight("a.weight", { device: device(), shape: [rows, columns] });
    await expectRejection(
      reading,
      "OUT_OF_MEMORY",
      /tensor "a\.weight": no memory for 549755813888 of its bytes; free some/,
    );
  });

  test("for there are no weights", async () => {
    using directory = temporaryDirectory();
    copyFileSync(join(path, "config.json"), join(directory.path, "config.json"));
    await using model = await openModel(directory.path);
    expect(model.hasWeight(name)).toBe(false);
    await expectRejection(model.weight(name, { device: device(), shape: [32, 32] }), "BAD_CHECKPOINT", /got neither$/);
  });
});
