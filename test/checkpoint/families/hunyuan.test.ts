import { describe, expect, test } from "vitest";
import type { SafetensorsInput } from "../../../lib/checkpoint/safetensors/index.js";
import { MoeLayer, openModel } from "../../../lib/index.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";
import { writeModel } from "../support/model_directory.js";
import { temporaryDirectory } from "../support/temporary_directory.js";

// HunYuan-Large against its formula in plain loops and float64, with a capacity that is often too small.

const [H, I, E, S] = [24, 20, 4, 2];

interface Weights {
  readonly router: Float32Array;
  readonly experts: readonly Expert[];
  readonly shared: Expert;
}
interface Expert {
  readonly gate: Float32Array;
  readonly up: Float32Array;
  readonly down: Float32Array;
  readonly width: number;
}

interface Choice {
  readonly expert: number;
  readonly weight: number;
}

const config = (topK: number) => ({
  model_type: "hunyuan",
  architectures: ["HunYuanForCausalLM"],
  num_hidden_layers: 2,
  hidden_size: H,
  intermediate_size: I,
  num_experts: E,
  moe_topk: topK,
  num_shared_expert: S,
  use_mixed_mlp_moe: true,
  hidden_act: "silu",
  moe_drop_tokens: false,
});

function randomWeights(random: Random): Weights {
  const matrix = (rows: number, columns: number) => Float32Array.from(random.normals(rows * columns, columns ** -0.5));
  const expert = (width: number) => ({ gate: matrix(width, H), up: matrix(width, H), down: matrix(H, width), width });
  // Some experts are liked by all tokens, so that they are full.
  const router = matrix(E, H).map((value, index) => value + (index < H ? 0.3 : 0));
  return { router, experts: Array.from({ length: E }, () => expert(I)), shared: expert(S * I) };
}

function tensors({ router, experts, shared }: Weights, layer: number): Map<string, SafetensorsInput> {
  const block = `model.layers.${layer}.mlp`;
  const named = new Map<string, SafetensorsInput>();
  const add = (name: string, data: Float32Array, rows: number) => {
    named.set(`${block}.${name}.weight`, { dtype: "F32", shape: [rows, data.length / rows], data });
  };
  const addExpert = (name: string, { gate, up, down, width }: Expert) => {
    add(`${name}.gate_proj`, gate, width);
    add(`${name}.up_proj`, up, width);
    add(`${name}.down_proj`, down, H);
  };
  add("gate.wg", router, E);
  experts.forEach((expert, index) => {
    addExpert(`experts.${index}`, expert);
  });
  addExpert("shared_mlp", shared);
  return named;
}

function product(matrix: Float32Array, x: ArrayLike<number>): Float64Array {
  const columns = x.length;
  return Float64Array.from({ length: matrix.length / columns }, (_, row) => {
    let sum = 0;
    for (let column = 0; column < columns; column++)
      sum += (matrix[row * columns + column] as number) * (x[column] as number);
    return sum;
  });
}

function apply({ gate, up, down }: Expert, x: ArrayLike<number>): Float64Array {
  const linear = product(up, x);
  const inner = product(gate, x).map((value, index) => (value / (1 + Math.exp(-value))) * (linear[index] as number));
  return product(down, inner);
}

/** The ids [T, k], -1 where an expert was full, and the output [T, H]. */
function expectedOf({ router, experts, shared }: Weights, x: Float32Array, tokens: number, topK: number) {
  const row = (token: number) => x.subarray(token * H, (token + 1) * H);
  const choices = Array.from({ length: tokens }, (_, token) => {
    const exponentials = product(router, row(token)).map(Math.exp);
    const sum = exponentials.reduce((a, b) => a + b, 0);
    const gates = [...exponentials].map((value, expert) => ({ expert, gate: value / sum }));
    const chosen = gates.toSorted((a, b) => b.gate - a.gate || a.expert - b.expert).slice(0, topK);
    const divisor = Math.max(
      chosen.reduce((total, { gate }) => total + gate, 0),
      1.1920928955078125e-7,
    );
    return chosen.map(({ expert, gate }) => ({ expert, weight: gate / divisor }));
  });
  const capacity = Math.max(topK, Math.floor((topK * tokens) / E));
  const taken = new Array(E).fill(0);
  const ids = new Int32Array(tokens * topK).fill(-1);
  const output = new Float64Array(tokens * H);
  const add = (token: number, values: Float64Array, weight: number) => {
    for (let column = 0; column < H; column++) {
      output[token * H + column] = (output[token * H + column] as number) + weight * (values[column] as number);
    }
  };
  for (let choice = 0; choice < topK; choice++) {
    for (let token = 0; token < tokens; token++) {
      const { expert, weight } = (choices[token] as Choice[])[choice] as Choice;
      if (taken[expert]++ >= capacity) continue;
      ids[token * topK + choice] = expert;
      add(token, apply(experts[expert] as Expert, row(token)), weight);
    }
  }
  for (let token = 0; token < tokens; token++) add(token, apply(shared, row(token)), 1);
  return { ids, output };
}

describe.each(["reference", "cpu", "simt"] as const)("on %s", (name) => {
  const device = openForTests(name);

  test.each([
    [1, 1],
    [1, 13],
    [2, 1],
    [2, 7],
    [2, 31],
    [3, 10],
  ])("top %i of %i tokens", async (topK, count) => {
    using directory = temporaryDirectory();
    const random = new Random(`hunyuan ${topK} ${count}`);
    const weights = randomWeights(random);
    await writeModel(directory.path, { config: config(topK), weights: tensors(weights, 1) });
    const x = Float32Array.from(random.normals(count * H, 1));
    const expected = expectedOf(weights, x, count, topK);
    using layer = await MoeLayer.load(directory.path, { layer: 1, device: device(), dtype: "f32" });
    using input = device().tensor(x, [count, H]);
    const routing = layer.route(input);
    expect(await routing.ids.data()).toEqual(expected.ids);
    using y = layer.forward(input);
    expect(relativeError(await y.data(), expected.output)).toBeLessThan(1e-5);
    if (count > 6) expect(expected.ids).toContain(-1);
  });
});

test("configurations of later models with the same model_type are refused", async () => {
  using directory = temporaryDirectory();
  await writeModel(directory.path, { config: { ...config(1), moe_intermediate_size: 4 }, weights: new Map() });
  await using later = await openModel(directory.path);
  const message = /moe_intermediate_size: expected no such field .*"hunyuan_v1_moe"/;
  expectError(() => later.layer(0), "BAD_CHECKPOINT", message);
});

test("a model without experts has none, and one without a shared expert has no such tensors", async () => {
  using directory = temporaryDirectory();
  await writeModel(directory.path, { config: { ...config(1), num_experts: 1 }, weights: new Map() });
  await using dense = await openModel(directory.path);
  expect(dense.layersWithExperts).toEqual([]);
  await writeModel(directory.path, { config: { ...config(1), use_mixed_mlp_moe: undefined }, weights: new Map() });
  await using plain = await openModel(directory.path);
  expect(plain.layer(0).config.sharedExpert).toBeUndefined();
});
