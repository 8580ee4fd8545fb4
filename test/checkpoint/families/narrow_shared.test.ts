import { describe, expect, test } from "vitest";
import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { MoeLayer } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// Shared experts whose down projection, or the rest of it beside pieces of the routed experts' width, is narrower than theirs.

const [hidden, inner, experts] = [64, 64, 2];

type Matrix = (rows: number, columns: number) => Readonly<Record<string, SafetensorsInput>>;

/** 8-bit integers with a scale and a zero point for each row, and the same as floats. */
function integers(random: Random, rows: number, columns: number) {
  const codes = Int8Array.from({ length: rows * columns }, () => random.integer(-128, 127));
  const zeros = Int8Array.from({ length: rows }, () => random.integer(-40, 40));
  const scales = Float32Array.from({ length: rows }, () => 0.001 * (1 + random.uniform()));
  const weights = Float32Array.from(codes, (code, at) => {
    const row = Math.floor(at / columns);
    return (code - (zeros[row] as number)) * (scales[row] as number);
  });
  const quantised = {
    weight: { dtype: "I8", shape: [rows, columns], data: codes },
    weight_scale: { dtype: "F32", shape: [rows, 1], data: scales },
    weight_zero_point: { dtype: "I8", shape: [rows, 1], data: zeros },
  } as const;
  return { quantised, floats: { weight: { dtype: "F32", shape: [rows, columns], data: weights } } as const };
}

/** A layer whose shared expert has this width. */
function model(width: number, kind: "quantised" | "floats", groupSize?: number) {
  const random = new Random(`narrow ${width}`);
  const matrix: Matrix = (rows, columns) => integers(random, rows, columns)[kind];
  const weights = new Map<string, SafetensorsInput>();
  const add = (name: string, rows: number, columns: number) => {
    for (const [suffix, tensor] of Object.entries(matrix(rows, columns))) {
      weights.set(`model.layers.0.mlp.${name}.${suffix}`, tensor);
    }
  };
  const float = (name: string, rows: number) => {
    const tensor = { dtype: "F32", shape: [rows, hidden], data: random.normals(rows * hidden) } as const;
    weights.set(`model.layers.0.mlp.${name}.weight`, tensor);
  };
  float("gate", experts);
  float("shared_expert_gate", 1);
  for (const [name, own] of [
    ["experts.0", inner],
    ["experts.1", inner],
    ["shared_expert", width],
  ] as const) {
    add(`${name}.gate_proj`, own, hidden);
    add(`${name}.up_proj`, own, hidden);
    add(`${name}.down_proj`, hidden, own);
  }
  const config = {
    model_type: "qwen2_moe",
    num_hidden_layers: 1,
    hidden_size: hidden,
    moe_intermediate_size: inner,
    shared_expert_intermediate_size: width,
    num_experts: experts,
    num_experts_per_tok: 1,
    quantization_config: {
      quant_method: "compressed-tensors",
      config_groups: { group_0: { targets: ["Linear"], weights: { num_bits: 8, group_size: groupSize } } },
    },
  };
  return { config, weights };
}

describe.each(deviceNames)("shared experts with zero points on %s", (deviceName) => {
  const device = openForTests(deviceName);

  test.each([{ width: 32 }, { width: 96 }, { width: 96, groupSize: 128 }])(
    "of width $width, groups of $groupSize",
    async ({ width, groupSize }) => {
      const outputs: Float32Array[] = [];
      for (const kind of ["quantised", "floats"] as const) {
        using directory = temporaryDirectory();
        await writeModel(directory.path, model(width, kind, groupSize));
        using layer = await MoeLayer.load(directory.path, { layer: 0, device: device() });
        using x = device().tensor(new Random("tokens").normals(5 * hidden), [5, hidden]);
        outputs.push(await layer.forward(x).data());
      }
      const [output, expected] = outputs as [Float32Array, Float32Array];
      expect(relativeError(output, expected)).toBeLessThanOrEqual(1e-5);
    },
  );
});
