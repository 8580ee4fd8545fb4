import { describe, expect, test } from "vitest";
import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { type Device, MoeLayer } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { expectRejection } from "../../support/errors.js";
import { type ModelFiles, writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// Integers of compressed-tensors: in words, of which each had only whole codes before 0.17 (`pack-quantized`), and in bytes
// (`int-quantized`).

const [hidden, inner, experts, group] = [96, 64, 2, 32];

interface Kind {
  readonly bits: number;
  readonly asymmetric?: boolean;
  /** What `weight_g_idx` says: groups of other columns than neighbours, or nothing, as of experts without samples. */
  readonly order?: "chosen" | "none";
  /** Whether each code is a byte. */
  readonly inBytes?: boolean;
}

/** Rows of numbers in 32-bit words, of which each has only whole ones. */
function packRows(numbers: readonly (readonly number[])[], bits: number): SafetensorsInput {
  const perWord = Math.floor(32 / bits);
  const width = Math.ceil((numbers[0] as readonly number[]).length / perWord);
  const data = new Int32Array(numbers.length * width);
  for (const [row, values] of numbers.entries()) {
    for (const [index, value] of values.entries()) {
      const word = row * width + Math.floor(index / perWord);
      data[word] = (data[word] as number) | (value << ((index % perWord) * bits));
    }
  }
  return { dtype: "I32", shape: [numbers.length, width], data };
}

const columnsOf = (rows: readonly (readonly number[])[]) =>
  (rows[0] as readonly number[]).map((_, column) => rows.map((row) => row[column] as number));

function turned({ dtype, shape, data }: SafetensorsInput): SafetensorsInput {
  const [rows = 0, columns = 0] = shape;
  const words = data as Int32Array;
  const target = Int32Array.from(words, (_, at) => words[(at % rows) * columns + Math.floor(at / rows)] as number);
  return { dtype, shape: [columns, rows], data: target };
}

/** A matrix of random codes: its packed tensors, and its weights. */
function randomMatrix(random: Random, rows: number, columns: number, { bits, asymmetric, order, inBytes }: Kind) {
  const numbers = (count: number) => Array.from({ length: count }, () => random.integer(0, 2 ** bits - 1));
  const groups = columns / group;
  const codes = Array.from({ length: rows }, () => numbers(columns));
  const zeros = Array.from({ length: rows }, () =>
    asymmetric ? numbers(groups) : Array(groups).fill(2 ** (bits - 1)),
  );
  const scales = Float32Array.from({ length: rows * groups }, () => 0.02 * (1 + random.uniform()));
  const groupOf = Int32Array.from({ length: columns }, (_, column) =>
    order === "chosen" ? column % groups : Math.floor(column / group),
  );
  const weights = Float32Array.from({ length: rows * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    const own = groupOf[column] as number;
    const code = (codes[row]?.[column] as number) - (zeros[row]?.[own] as number);
    return code * (scales[row * groups + own] as number);
  });
  const bytes = (rows: readonly (readonly number[])[]): SafetensorsInput => {
    const data = Int8Array.from(rows.flat(), (number) => number - 128);
    return { dtype: "I8", shape: [rows.length, data.length / rows.length], data };
  };
  const written = order === "none" ? new Int32Array(columns).fill(-1) : groupOf;
  const packed: Record<string, SafetensorsInput> = {
    ...(inBytes ? { weight: bytes(codes) } : { weight_packed: packRows(codes, bits) }),
    weight_scale: { dtype: "F32", shape: [rows, groups], data: scales },
    ...(asymmetric && { weight_zero_point: inBytes ? bytes(zeros) : turned(packRows(columnsOf(zeros), bits)) }),
    ...(order !== undefined && { weight_g_idx: { dtype: "I32", shape: [columns], data: written } }),
  };
  return { packed, plain: { weight: { dtype: "F32", shape: [rows, columns], data: weights } as SafetensorsInput } };
}

/** The same layer twice: packed, and as floats. */
function models(kind: Kind, kindOf: (expert: number, role: string) => Kind = () => kind) {
  const random = new Random(`words of ${JSON.stringify(kind)}`);
  const config = {
    model_type: "qwen3_moe",
    num_hidden_layers: 1,
    hidden_size: hidden,
    moe_intermediate_size: inner,
    num_experts: experts,
    num_experts_per_tok: 1,
  };
  const router: SafetensorsInput = { dtype: "F32", shape: [experts, hidden], data: random.normals(experts * hidden) };
  const [packed, plain] = [new Map<string, SafetensorsInput>(), new Map<string, SafetensorsInput>()];
  for (const weights of [packed, plain]) weights.set("model.layers.0.mlp.gate.weight", router);
  for (let expert = 0; expert < experts; expert++) {
    for (const role of ["gate", "up", "down"]) {
      const [rows, columns] = role === "down" ? ([hidden, inner] as const) : ([inner, hidden] as const);
      const matrix = randomMatrix(random, rows, columns, kindOf(expert, role));
      const stem = `model.layers.0.mlp.experts.${expert}.${role}_proj`;
      for (const [suffix, tensor] of Object.entries(matrix.packed)) packed.set(`${stem}.${suffix}`, tensor);
      plain.set(`${stem}.weight`, matrix.plain.weight);
    }
  }
  const weights = { num_bits: kind.bits, type: "int", strategy: "group", group_size: group };
  const quantization_config = {
    quant_method: "compressed-tensors",
    format: "pack-quantized",
    config_groups: { group_0: { targets: ["Linear"], weights } },
  };
  return { packed: { config: { ...config, quantization_config }, weights: packed }, plain: { config, weights: plain } };
}

/** What a layer gives for five tokens. */
async function outputOf(model: ModelFiles, device: Device): Promise<Float32Array> {
  using directory = temporaryDirectory();
  await writeModel(directory.path, model);
  using layer = await MoeLayer.load(directory.path, { layer: 0, device });
  using tokens = device.tensor(new Random("tokens").normals(5 * hidden), [5, hidden]);
  return await layer.forward(tokens).data();
}

describe("integers", () => {
  const device = openForTests("reference");
  const cpu = openForTests("cpu");

  test.each<Kind>(
    [{ bits: 3 }, { bits: 5 }, { bits: 6 }, { bits: 8, inBytes: true }].flatMap((kind) => [
      kind,
      { ...kind, asymmetric: true },
      { ...kind, order: "chosen" },
      { ...kind, asymmetric: true, order: "chosen" },
      { ...kind, order: "none" },
    ]),
  )("%o", async (kind) => {
    const { packed, plain } = models(kind);
    const error = relativeError(await outputOf(packed, device()), await outputOf(plain, device()));
    expect(error).toBeLessThanOrEqual(1e-6);
  });

  test("of which only the up projection of the last expert has another order", async () => {
    const kind: Kind = { bits: 4 };
    const { packed, plain } = models(kind, (expert, role) =>
      expert === experts - 1 && role === "up" ? { ...kind, order: "chosen" } : kind,
    );
    const error = relativeError(await outputOf(packed, cpu()), await outputOf(plain, device()));
    expect(error).toBeLessThanOrEqual(1e-6);
  });

  test("of 7 bits are refused, though 8 bits have the same shape", async () => {
    using directory = temporaryDirectory();
    await writeModel(directory.path, models({ bits: 7 }).packed);
    const loading = MoeLayer.load(directory.path, { layer: 0, device: device() });
    await expectRejection(loading, "BAD_CHECKPOINT", /weight_packed": expected codes of 2, .* bits .* and num_bits 7/);
  });
});
