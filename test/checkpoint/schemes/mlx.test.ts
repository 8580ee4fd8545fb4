import { describe, expect, test } from "vitest";
import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import type { Device } from "../../../lib/core/device/device.js";
import { fromBF16, fromE4M3, fromE8M0, fromF16, toBF16, toF16 } from "../../../lib/core/tensors/dtype.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { familyTokens, readFamilyModel, readFamilyResults } from "../support/family_model.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

const [hidden, inner, experts] = [128, 192, 3];

/** A mode of MLX's quantize(), and what it makes of a matrix: the tensors after its name, and its values. */
interface Mode {
  readonly bits: number;
  readonly group: number;
  readonly scales: "BF16" | "F16" | "F32" | "U8";
}

const e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

/** Random floats of a dtype, in the files' form and as numbers. */
function floats(random: Random, dtype: "BF16" | "F16" | "F32", count: number, size: number) {
  const drawn = random.normals(count, size);
  if (dtype === "F32") {
    const data = Float32Array.from(drawn);
    return { data, numbers: Float64Array.from(data) };
  }
  const [to, from] = dtype === "F16" ? [toF16, fromF16] : [toBF16, fromBF16];
  const data = Uint16Array.from(drawn, to);
  return { data, numbers: Float64Array.from(data, from) };
}

/** Code `index` of a stream in 32-bit words, lower ones in lower bits. */
function codeOf(words: Uint32Array, bits: number, index: number): number {
  let code = 0;
  for (let bit = 0; bit < bits; bit++) {
    const place = index * bits + bit;
    code += (((words[place >> 5] as number) >>> (place & 31)) & 1) * 2 ** bit;
  }
  return code;
}

/** Random stacked matrices [E, N, K], or one [N, K]. */
function quantised(random: Random, name: string, shape: readonly number[], { bits, group, scales }: Mode) {
  const columns = shape.at(-1) as number;
  const count = shape.reduce((product, size) => product * size);
  const words = new Uint32Array((count * bits) / 32).map(() => random.integer(0, 2 ** 32 - 1));
  // Neither of e4m3's numbers is NaN if its exponent lacks a bit.
  if (scales === "U8" && bits === 8) for (const [at, word] of words.entries()) words[at] = word & 0xbfbfbfbf;
  const lead = shape.slice(0, -1);
  const tensors = new Map<string, SafetensorsInput>();
  const add = (suffix: string, dtype: string, width: number, data: SafetensorsInput["data"]) =>
    tensors.set(`${name}.${suffix}`, { dtype, shape: [...lead, width], data } as SafetensorsInput);
  add("weight", "U32", (columns * bits) / 32, words);
  const groups = count / group;
  if (scales === "U8") {
    const data = new Uint8Array(groups).map(() =>
      group === 16 ? random.integer(0x10, 0x28) : random.integer(118, 121),
    );
    add("scales", "U8", columns / group, data);
    const scaleOf = group === 16 ? fromE4M3 : fromE8M0;
    const numberOf = (code: number) => (bits === 4 ? (e2m1[code] as number) : fromE4M3(code));
    const values = Float32Array.from({ length: count }, (_, index) => {
      return numberOf(codeOf(words, bits, index)) * scaleOf(data[Math.floor(index / group)] as number);
    });
    return { tensors, values };
  }
  const scale = floats(random, scales, groups, 0.3 / 2 ** bits);
  const bias = floats(random, scales, groups, 0.1);
  add("scales", scales, columns / group, scale.data);
  add("biases", scales, columns / group, bias.data);
  const values = Float32Array.from({ length: count }, (_, index) => {
    const of = Math.floor(index / group);
    return codeOf(words, bits, index) * (scale.numbers[of] as number) + (bias.numbers[of] as number);
  });
  return { tensors, values };
}

const families = {
  qwen3_moe: {
    config: { model_type: "qwen3_moe", num_experts: experts, num_experts_per_tok: 2, moe_intermediate_size: inner },
    block: "mlp",
    names: ["gate_proj", "up_proj", "down_proj"],
  },
  mixtral: {
    config: { model_type: "mixtral", num_local_experts: experts, num_experts_per_tok: 2, intermediate_size: inner },
    block: "block_sparse_moe",
    names: ["w1", "w3", "w2"],
  },
  // The names are MLX's in both.
  gpt_oss: {
    config: { model_type: "gpt_oss", num_local_experts: experts, num_experts_per_tok: 2, intermediate_size: inner },
    block: "mlp",
    names: undefined,
  },
} as const;

/** A model in files of MLX, and with the same values in those of Transformers. */
function models(family: keyof typeof families, mode: Mode, router: Mode | undefined = undefined) {
  const random = new Random(`${family} ${JSON.stringify(mode)}`);
  const { config: sizes, block, names } = families[family];
  const config = { ...sizes, hidden_size: hidden, num_hidden_layers: 1, hidden_act: "silu" };
  const [stored, plain] = [new Map<string, SafetensorsInput>(), new Map<string, SafetensorsInput>()];
  const put = (name: string, shape: readonly number[], data: Float32Array) =>
    plain.set(name, { dtype: "F32", shape, data });
  const module = `model.layers.0.${block}`;
  const gate = `${module}.${names === undefined ? "router" : "gate"}`;
  const putBoth = (name: string, shape: readonly number[]) => {
    put(
      name,
      shape,
      Float32Array.from(
        random.normals(
          shape.reduce((product, size) => product * size),
          0.2,
        ),
      ),
    );
    stored.set(name, plain.get(name) as SafetensorsInput);
  };
  if (router === undefined) putBoth(`${gate}.weight`, [experts, hidden]);
  else {
    const { tensors, values } = quantised(random, gate, [experts, hidden], router);
    for (const [name, tensor] of tensors) stored.set(name, tensor);
    put(`${gate}.weight`, [experts, hidden], values);
  }
  if (names === undefined) putBoth(`${gate}.bias`, [experts]);
  for (const [index, theirs] of ["gate_proj", "up_proj", "down_proj"].entries()) {
    const shape = index === 2 ? [hidden, inner] : [inner, hidden];
    const whole = `${module}.${names === undefined ? "experts" : "switch_mlp"}.${theirs}`;
    const { tensors, values } = quantised(random, whole, [experts, ...shape], mode);
    for (const [name, tensor] of tensors) stored.set(name, tensor);
    if (names === undefined) {
      put(`${whole}.weight`, [experts, ...shape], values);
      putBoth(`${whole}.bias`, [experts, shape[0] as number]);
      continue;
    }
    const size = hidden * inner;
    for (let e = 0; e < experts; e++) {
      put(`${module}.experts.${e}.${names[index]}.weight`, shape, values.slice(e * size, (e + 1) * size));
    }
  }
  const { bits, group } = mode;
  const quantization = { group_size: group, bits, [gate]: { group_size: 64, bits: 8 } };
  return { stored: { config: { ...config, quantization }, weights: stored }, plain: { config, weights: plain } };
}

async function outputs(device: Device, model: Parameters<typeof writeModel>[1]) {
  using directory = temporaryDirectory();
  await writeModel(directory.path, model);
  using layer = await MoeLayer.load(directory.path, { layer: 0, device });
  const x = Float32Array.from(new Random("tokens").normals(7 * hidden));
  using tokens = device.tensor(x, [7, hidden]);
  return { y: await layer.forward(tokens).data(), formats: layer.description.formats };
}

const affine = [2, 3, 4, 5, 6, 8].flatMap((bits) =>
  (["BF16", "F16", "F32"] as const).map((scales): Mode => ({ bits, group: bits === 8 ? 32 : 64, scales })),
);
const floatModes: readonly Mode[] = [
  { bits: 4, group: 32, scales: "U8" },
  { bits: 8, group: 32, scales: "U8" },
  { bits: 4, group: 16, scales: "U8" },
];

const reference = openForTests("reference");

describe.each(deviceNames)("files of MLX on %s", (name) => {
  const device = openForTests(name);

  test.each([...affine, ...floatModes])("$bits bits in groups of $group, scales in $scales", async (mode) => {
    const { stored, plain } = models("qwen3_moe", mode);
    const { y, formats } = await outputs(device(), stored);
    const expected = await outputs(reference(), plain);
    expect(relativeError(y, expected.y)).toBeLessThanOrEqual(1e-5);
    const scales = mode.scales.toLowerCase();
    const names = ["mxfp4", "e4m3_g32_e8m0", "e2m1_g16_e4m3"];
    const format = mode.scales === "U8" ? names[floatModes.indexOf(mode)] : `a${mode.bits}_g${mode.group}_${scales}`;
    expect(formats).toMatchObject({ gate: format, up: format, down: format });
  });

  test("gpt-oss, with biases that are not the codes'", async () => {
    for (const mode of [floatModes[0], { bits: 8, group: 64, scales: "BF16" }] as const) {
      const { stored, plain } = models("gpt_oss", mode as Mode);
      const expected = await outputs(reference(), plain);
      expect(relativeError((await outputs(device(), stored)).y, expected.y)).toBeLessThanOrEqual(1e-5);
    }
  });

  test("names of other experts, and a quantised router", async () => {
    const mode: Mode = { bits: 4, group: 64, scales: "BF16" };
    const { stored, plain } = models("mixtral", mode, { bits: 8, group: 64, scales: "BF16" });
    const expected = await outputs(reference(), plain);
    expect(relativeError((await outputs(device(), stored)).y, expected.y)).toBeLessThanOrEqual(1e-5);
  });
});

/** Loads a golden model whose weights are changed, and compares its layer with the authors' results. */
async function expectGolden(model: string, change: (weights: Map<string, SafetensorsInput>) => void) {
  const { config, weights } = await readFamilyModel(model);
  change(weights);
  const { layer, ...results } = await readFamilyResults(model);
  using directory = temporaryDirectory();
  await writeModel(directory.path, { config, weights });
  using loaded = await MoeLayer.load(directory.path, { layer, device: reference() });
  const { x, options } = familyTokens(reference(), { layer, ...results }, "f32");
  expect(relativeError(await loaded.forward(x, options).data(), results.output)).toBeLessThanOrEqual(1e-5);
}

/** Element `index` of the transposed matrices [E, N, K] of such a shape, as an index into [E, K, N]. */
const transposed = (index: number, [, rows, columns]: readonly [number, number, number]) => {
  const [matrix, rest] = [Math.floor(index / (rows * columns)), index % (rows * columns)];
  return matrix * rows * columns + (rest % columns) * rows + Math.floor(rest / columns);
};

/** A part of the rows of stacked matrices, which may be stored with inputs first. */
function rowsOf({ shape, data }: SafetensorsInput, half: 0 | 1 | undefined, inputsFirst: boolean): SafetensorsInput {
  const [count, first, second] = shape as [number, number, number];
  const [rows, columns] = inputsFirst ? [second, first] : [first, second];
  const given = data as Float32Array;
  const whole = given.map((value, index) =>
    inputsFirst ? (given[transposed(index, [count, rows, columns])] as number) : value,
  );
  if (half === undefined) return { dtype: "F32", shape: [count, rows, columns], data: whole };
  const size = (rows / 2) * columns;
  const parts = Array.from({ length: count }, (_, e) =>
    whole.subarray((2 * e + half) * size, (2 * e + half + 1) * size),
  );
  return {
    dtype: "F32",
    shape: [count, rows / 2, columns],
    data: Float32Array.from(parts.flatMap((part) => [...part])),
  };
}

test.each([
  ["granitemoe", /\.(input|output)_linear\.weight$/, ".switch_mlp", false],
  ["gemma4", /\.experts\.(gate_up|down)_proj$/, ".experts.switch_glu", false],
  ["llama4_scout", /\.experts\.(gate_up|down)_proj$/, ".experts", true],
] as const)("%s, whose gate and up are apart", async (model, stack, module, inputsFirst) => {
  await expectGolden(model, (weights) => {
    const found = [...weights].filter(([name]) => stack.test(name) && !name.includes("shared_mlp"));
    expect(found.length).toBeGreaterThan(1);
    for (const [name, tensor] of found) {
      const put = (matrix: string, half?: 0 | 1) =>
        weights.set(`${name.replace(stack, module)}.${matrix}.weight`, rowsOf(tensor, half, inputsFirst));
      weights.delete(name);
      if (/output_linear|down_proj/.test(name)) put("down_proj");
      else {
        put("gate_proj", 0);
        put("up_proj", 1);
      }
    }
  });
});

test("nemotron_h, whose experts have no gate", async () => {
  await expectGolden("nemotron_h", (weights) => {
    const stacks = new Map<string, Float32Array[]>();
    for (const [name, { shape, data }] of weights) {
      const [, block, e, module] = /^(.*)\.experts\.(\d+)\.(up|down)_proj\.weight$/.exec(name) ?? [];
      if (block === undefined) continue;
      const whole = `${block}.switch_mlp.${module === "up" ? "fc1" : "fc2"}.weight`;
      const list = stacks.get(whole) ?? [];
      list[Number(e)] = data as Float32Array;
      stacks.set(whole, list);
      weights.delete(name);
      const values = Float32Array.from(list.flatMap((one) => [...one]));
      weights.set(whole, { dtype: "F32", shape: [list.length, ...shape], data: values });
    }
    expect(stacks.size).toBeGreaterThan(1);
  });
});

/** What mlx-lm and mlx-vlm call tensors besides those of single experts, where that is not Transformers' name. */
const renamed: [model: string, module: string, names?: readonly (readonly [RegExp, string])[]][] = [
  ["afmoe", "experts"],
  ["bailing_hybrid", "switch_mlp", [[/\.gate\.weight$/, ".gate.gate_proj.weight"]]],
  ["bailing_moe", "switch_mlp", [[/\.gate\.weight$/, ".gate.gate_proj.weight"]]],
  ["bailing_moe_v2", "switch_mlp", [[/\.gate\.weight$/, ".gate.gate_proj.weight"]]],
  ["cohere2_moe", "switch_mlp", [[/^model\./, "language_model.model."]]],
  ["deepseek_v2_groups", "switch_mlp"],
  ["deepseek_v3", "switch_mlp"],
  ["deepseek_v4", "switch_mlp", deepseekV4Names()],
  ["deepseek_v4_hash", "switch_mlp", deepseekV4Names()],
  ["dots1", "experts"],
  ["exaone_moe", "switch_mlp", [[/\.mlp\.e_score/, ".mlp.gate.e_score"]]],
  ["glm4_moe", "switch_mlp"],
  ["glm4v_moe", "switch_mlp", [[/^model\.language_model\./, "language_model.model."]]],
  ["hunyuan_v1_moe", "switch_mlp"],
  ["jamba", "switch_mlp"],
  ["kimi_k2", "switch_mlp", [[/^model\./, "language_model.model."]]],
  ["kimi_linear", "switch_mlp", kimiLinearNames()],
  ["kimi_linear_latent", "switch_mlp", [...kimiLinearNames(), [/^model\./, "language_model.model."]]],
  ["klear", "experts"],
  ["laguna", "switch_mlp", [[/\.experts\.e_score/, ".gate.e_score"]]],
  ["lfm2_moe", "switch_mlp"],
  ["longcat_flash", "switch_mlp"],
  ["mimo_v2_flash", "switch_mlp"],
  ["minimax_m2", "switch_mlp"],
  ["mistral4", "switch_mlp"],
  ["mixtral", "switch_mlp"],
  ["olmoe", "switch_mlp"],
  ["phimoe", "switch_mlp"],
  ["qwen2_moe", "switch_mlp"],
  ["qwen3_next", "switch_mlp"],
  [
    "step3p5",
    "switch_mlp",
    [
      [/\.moe\.(gate|up|down)_proj\./, ".mlp.switch_mlp.$1_proj."],
      [/\.moe\.gate\./, ".mlp.gate.gate."],
      [/\.moe\.router_bias$/, ".mlp.gate.router_bias"],
      [/\.share_expert\./, ".mlp.share_expert."],
    ],
  ],
];

function deepseekV4Names(): readonly (readonly [RegExp, string])[] {
  return [
    [/\.gate\.bias$/, ".gate.e_score_correction_bias"],
    [/\.shared_experts\.w1\./, ".shared_experts.gate_proj."],
    [/\.shared_experts\.w2\./, ".shared_experts.down_proj."],
    [/\.shared_experts\.w3\./, ".shared_experts.up_proj."],
    [/^layers\./, "language_model.model.layers."],
  ];
}

function kimiLinearNames(): readonly (readonly [RegExp, string])[] {
  return [
    [/\.block_sparse_moe\./, ".mlp."],
    [/\.gate\.e_score_correction_bias$/, ".e_score_correction_bias"],
  ];
}

const mlxMatrices: Readonly<Record<string, string>> = { w1: "gate_proj", w3: "up_proj", w2: "down_proj" };

/** Renames tensors, and stacks those of single experts in a module. */
function asMlx(
  weights: Map<string, SafetensorsInput>,
  module: string,
  names: readonly (readonly [RegExp, string])[],
): void {
  const stacks = new Map<string, SafetensorsInput[]>();
  for (const [name, tensor] of [...weights]) {
    weights.delete(name);
    const [, block, e, matrix = "", kind] = /^(.*)\.experts\.(\d+)\.(\w+)\.(weight|bias)$/.exec(name) ?? [];
    const own = names.reduce((text, [from, to]) => text.replace(from, to), block === undefined ? name : `${block}.`);
    if (block === undefined) {
      weights.set(own, tensor);
      continue;
    }
    const whole = `${own}${module}.${mlxMatrices[matrix] ?? matrix}.${kind}`;
    const list = stacks.get(whole) ?? [];
    list[Number(e)] = tensor;
    stacks.set(whole, list);
  }
  for (const [name, list] of stacks) {
    const [{ dtype, shape }] = list as [SafetensorsInput];
    const data = Float32Array.from(list.flatMap((one) => [...(one.data as Float32Array)]));
    weights.set(name, { dtype, shape: [list.length, ...shape], data } as SafetensorsInput);
  }
}

test.each(renamed)("%s under the names of MLX's classes", async (model, module, names = []) => {
  await expectGolden(model, (weights) => {
    const before = new Set(weights.keys());
    asMlx(weights, module, names);
    expect([...weights.keys()].filter((name) => before.has(name) && /experts?\.\d/.test(name))).toEqual([]);
    expect(weights.size).toBeLessThanOrEqual(before.size);
    expect([...weights.keys()].some((name) => name.includes(`.${module}.`))).toBe(true);
  });
});

test.each(["ernie4_5_moe_vl", "ernie4_5_moe_vl_images"])("%s under the names of mlx-vlm", async (model) => {
  const images = model.endsWith("_images");
  await expectGolden(model, (weights) => {
    for (const [name, { dtype, shape, data }] of [...weights]) {
      const values = data as Float32Array;
      if (/\.gate\.weight(_1)?$/.test(name)) {
        weights.delete(name);
        const [rows, columns] = shape as [number, number];
        const turned = Float32Array.from(
          values,
          (_, at) => values[(at % rows) * columns + Math.floor(at / rows)] as number,
        );
        const own = name.replace(".gate.weight_1", ".gate_1.weight");
        weights.set(own, { dtype, shape: [columns, rows], data: turned } as SafetensorsInput);
      } else if (name.endsWith(".moe_statics.e_score_correction_bias")) {
        weights.delete(name);
        const own = name.replace(".moe_statics", "");
        const half = values.length / 2;
        const of = (first: number) =>
          ({ dtype, shape: [half], data: values.slice(first, first + half) }) as SafetensorsInput;
        weights.set(own, of(0));
        weights.set(`${own}_1`, of(half));
      } else if (images && name.includes(".experts.")) {
        weights.delete(name);
        weights.set(
          name.replace(/\.experts\.(\d+)/, (_, e) => `.experts.${Number(e) - 8}`),
          { dtype, shape, data } as SafetensorsInput,
        );
      }
    }
    asMlx(weights, images ? "switch_mlp_1" : "switch_mlp", []);
  });
});

test("ERNIE 4.5, of which mlx-lm drops the bias for the choice, is refused by its name", async () => {
  const { config, weights } = await readFamilyModel("ernie4_5_moe");
  const { layer } = await readFamilyResults("ernie4_5_moe");
  for (const name of weights.keys()) if (name.includes("e_score_correction_bias")) weights.delete(name);
  asMlx(weights, "switch_mlp", []);
  using directory = temporaryDirectory();
  await writeModel(directory.path, { config, weights });
  const loading = MoeLayer.load(directory.path, { layer, device: reference() });
  await expectRejection(
    loading,
    "BAD_CHECKPOINT",
    /expected a tensor ".*moe_statics\.e_score_correction_bias", got none/,
  );
});

test("gate and up in one stack, as mlx-vlm has Laguna's", async () => {
  await expectGolden("laguna", (weights) => {
    asMlx(weights, "switch_mlp", [
      [/\.experts\.e_score/, ".gate.e_score"],
      [/\.gate\.weight$/, ".gate.proj.weight"],
    ]);
    const gates = [...weights].filter(([name]) => name.endsWith(".switch_mlp.gate_proj.weight"));
    expect(gates).not.toHaveLength(0);
    for (const [name, gate] of gates) {
      const other = name.replace("gate_proj", "up_proj");
      const up = weights.get(other) as SafetensorsInput;
      const [count, rows, columns] = gate.shape as [number, number, number];
      const data = new Float32Array(2 * count * rows * columns);
      for (let e = 0; e < count; e++) {
        const part = (tensor: SafetensorsInput) =>
          (tensor.data as Float32Array).subarray(e * rows * columns, (e + 1) * rows * columns);
        data.set(part(gate), 2 * e * rows * columns);
        data.set(part(up), (2 * e + 1) * rows * columns);
      }
      weights.delete(name);
      weights.delete(other);
      weights.set(name.replace("gate_proj", "gate_up_proj"), { dtype: "F32", shape: [count, 2 * rows, columns], data });
    }
  });
});

test("Qwen3-Omni's thinker, whose language model has a name of its own", async () => {
  const { plain } = models("qwen3_moe", { bits: 4, group: 64, scales: "BF16" });
  const weights = new Map([...plain.weights].map(([name, tensor]) => [`thinker.language_model.${name}`, tensor]));
  const { y } = await outputs(reference(), { ...plain, weights });
  expect(relativeError(y, (await outputs(reference(), plain)).y)).toBe(0);
});

test.each(["fp8", { preset: "none" }])("another program's quantization, %j, says nothing", async (quantization) => {
  const { plain } = models("qwen3_moe", { bits: 4, group: 64, scales: "BF16" });
  const { formats } = await outputs(reference(), { ...plain, config: { ...plain.config, quantization } });
  expect(formats).toMatchObject({ up: "f32" });
});

describe("files of MLX that are refused", () => {
  const mode: Mode = { bits: 4, group: 64, scales: "BF16" };
  const name = "model.layers.0.mlp.switch_mlp.up_proj";

  async function refused(
    change: (weights: Map<string, SafetensorsInput>) => void,
    message: RegExp,
    stored = models("qwen3_moe", mode).stored,
  ) {
    change(stored.weights);
    await expectRejection(outputs(reference(), stored), "BAD_CHECKPOINT", message);
  }

  test("codes of other sizes", () =>
    refused(
      (weights) =>
        weights.set(`${name}.weight`, { dtype: "U32", shape: [3, 192, 15], data: new Uint32Array(3 * 192 * 15) }),
      /up_proj\.weight": expected shape \[3, 192, 8\] or .* got \[3, 192, 15\]/,
    ));
  test("no scales", () =>
    refused(
      (weights) => weights.delete(`${name}.scales`),
      /expected dtype F32, F16 or BF16, or codes with scales, got U32/,
    ));
  test("biases of another shape", () =>
    refused(
      (weights) => weights.set(`${name}.biases`, { dtype: "BF16", shape: [3, 192, 1], data: new Uint16Array(3 * 192) }),
      /up_proj\.biases": expected shape \[3, 192, 2\] .*got \[3, 192, 1\]/,
    ));
  test("biases that are no numbers", () =>
    refused((weights) => {
      const { shape, data } = weights.get(`${name}.biases`) as SafetensorsInput;
      weights.set(`${name}.biases`, { dtype: "BF16", shape, data: (data as Uint16Array).with(5, 0x7fc0) });
    }, /up_proj\.biases": expected finite scales, got NaN or infinity at \[2, 1\]/));
  test.each([
    ["mxfp4", { bits: 4, group: 32, scales: "U8" }, 255],
    ["mxfp8", { bits: 8, group: 32, scales: "U8" }, 255],
    ["nvfp4", { bits: 4, group: 16, scales: "U8" }, 0x7f],
  ] as const)("scales of %s that are no numbers", (_name, mode, bits) =>
    refused(
      (weights) => {
        const { shape, data } = weights.get(`${name}.scales`) as SafetensorsInput;
        weights.set(`${name}.scales`, { dtype: "U8", shape, data: (data as Uint8Array).with(9, bits) });
      },
      /up_proj\.scales": expected finite scales, got NaN or infinity at \[(2, 1|1, 1)\]/,
      models("qwen3_moe", mode).stored,
    ),
  );
  test("a scale of the scales", () =>
    refused(
      (weights) => weights.set(`${name}.global_scale`, { dtype: "F32", shape: [3], data: new Float32Array(3) }),
      /up_proj\.global_scale": expected no such tensor/,
    ));
  test("scales without biases that no mode has", () =>
    refused((weights) => {
      weights.delete(`${name}.biases`);
      weights.set(`${name}.scales`, { dtype: "U8", shape: [3, 192, 2], data: new Uint8Array(3 * 192 * 2) });
    }, /up_proj\.scales": expected 4 bits in groups of 32, .*, got 4 bits in groups of 64/));
});
