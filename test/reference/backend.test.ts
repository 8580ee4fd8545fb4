import { describe, expect, test } from "vitest";
import { activations, completeClamp, isGated } from "../../lib/core/layer/activation.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import type { Tensor } from "../../lib/core/tensors/tensor.js";
import { MoeLayer } from "../../lib/moe_layer.js";
import { combine } from "../../lib/operators/experts/combine.js";
import { groupedGemm } from "../../lib/operators/experts/grouped_gemm.js";
import { permute } from "../../lib/operators/experts/permute.js";
import { gating } from "../../lib/operators/routing/gating.js";
import { routerProjection } from "../../lib/operators/routing/router_projection.js";
import { activate } from "../../lib/reference/experts/activation.js";
import { relativeError } from "../../lib/testing/difference.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";

const device = openForTests("reference");
const f64 = (values: number[], shape: number[]) => device().tensor(Float64Array.from(values), shape, "f64");
const list = (...values: number[]) => device().tensor(Int32Array.from(values));

describe("float64 is kept through", () => {
  test("router projection and gating", () => {
    const logits = routerProjection(f64([1 / 3, 1 / 7], [1, 2]), f64([1, 0, 0, 3], [2, 2]), {
      bias: f64([0, 1e-12], [2]),
    });
    expect(logits.dtype).toBe("f64");
    expect(logits.toArraySync()).toEqual([[1 / 3, 3 / 7 + 1e-12]]);
    const { weights } = gating(logits, { topK: 2 });
    expect(weights.dtype).toBe("f64");
    const exponential = Math.exp(1 / 3 - (3 / 7 + 1e-12));
    expect(weights.toArraySync()).toEqual([[1 / (1 + exponential), exponential / (1 + exponential)]]);
  });

  test("permute, grouped GEMM and combine", () => {
    const x = f64([0.1, 0.2], [2, 1]);
    expect(permute(x, list(1)).toArraySync()).toEqual([[0.2]]);
    const y = groupedGemm(x, f64([1 / 3], [1, 1, 1]), list(0, 2));
    expect(y.toArraySync()).toEqual([[0.1 * (1 / 3)], [0.2 * (1 / 3)]]);
    const sum = combine(y, list(0, 1).reshape([1, 2]), f64([0.7, 0.3], [1, 2]) as Tensor as Tensor<"f32">);
    expect(sum.toArraySync()).toEqual(
      [[0.7 * 0.1 * (1 / 3) + 0.3 * 0.2 * (1 / 3)]].map(([value]) => [expect.closeTo(value as number, 15)]),
    );
  });

  test("and can only be combined with float64", () => {
    const x = f64([1], [1, 1]);
    const weight = device().zeros([1, 1], "f32");
    expectError(
      () => routerProjection(x, weight),
      "UNSUPPORTED_DTYPE",
      /weight: expected dtype f64 for x of f64, got f32/,
    );
    expectError(
      () => routerProjection(weight, x),
      "UNSUPPORTED_DTYPE",
      /weight: expected dtype f32, f16 or bf16 for x of f32/,
    );
  });
});

/** The layer's formula written out, token by token, without sort and grouped GEMM. */
describe.each(activations)("a layer of %s by hand", (activation) => {
  test.each([false, true])("biases: %s", (biases) => {
    const [tokens, hidden, inner, experts, topK] = [5, 6, 4, 3, 2];
    const random = new Random(activation);
    const draw = (count: number) => Array.from(random.normals(count));
    const x = draw(tokens * hidden);
    const router = draw(experts * hidden);
    const gated = isGated(activation);
    const networks = Array.from({ length: experts }, () => ({
      gate: draw(inner * hidden),
      up: draw(inner * hidden),
      down: draw(hidden * inner),
      gateBias: draw(inner),
      upBias: draw(inner),
      downBias: draw(hidden),
    }));
    using layer = MoeLayer.create({
      device: device(),
      hiddenSize: hidden,
      intermediateSize: inner,
      numExperts: experts,
      topK,
      activation,
      normalize: true,
      scale: 1.5,
      router: f64(router, [experts, hidden]),
      experts: networks.map(({ gate, up, down, gateBias, upBias, downBias }) => ({
        ...(gated ? { gate: f64(gate, [inner, hidden]) } : {}),
        up: f64(up, [inner, hidden]),
        down: f64(down, [hidden, inner]),
        ...(gated && biases ? { gateBias: f64(gateBias, [inner]) } : {}),
        ...(biases ? { upBias: f64(upBias, [inner]), downBias: f64(downBias, [hidden]) } : {}),
      })),
    });

    const product = (matrix: number[], vector: number[], bias: number[]) =>
      bias.map((start, row) =>
        vector.reduce(
          (sum, value, column) => sum + (matrix[row * vector.length + column] as number) * value,
          biases ? start : 0,
        ),
      );
    const expected = Array.from({ length: tokens }, (_, token) => {
      const values = x.slice(token * hidden, (token + 1) * hidden);
      const scores = Array.from({ length: experts }, (_, expert) => {
        const row = router.slice(expert * hidden, (expert + 1) * hidden);
        return Math.exp(row.reduce((sum, weight, column) => sum + weight * (values[column] as number), 0));
      });
      const chosen = [0, 1, 2].sort((a, b) => (scores[b] as number) - (scores[a] as number)).slice(0, topK);
      const total = chosen.reduce((sum, expert) => sum + (scores[expert] as number), 0);
      const outputs = chosen.map((expert) => {
        const { gate, up, down, gateBias, upBias, downBias } = networks[expert] as (typeof networks)[number];
        const first = [...(gated ? product(gate, values, gateBias) : []), ...product(up, values, upBias)];
        const rows = product(
          down,
          [...activate(activation, completeClamp(activation), Float64Array.from(first))],
          downBias,
        );
        return rows.map((value) => (1.5 * (scores[expert] as number) * value) / total);
      });
      return values.map((_, column) => outputs.reduce((sum, output) => sum + (output[column] as number), 0));
    });
    using y = layer.forward(f64(x, [tokens, hidden]));
    expect(relativeError(y.dataSync(), expected.flat())).toBeLessThanOrEqual(1e-12);
  });
});

test("a layer rounds its weights to its own dtype and nothing in between", () => {
  const create = (dtype: FloatDType) =>
    MoeLayer.create({
      device: device(),
      hiddenSize: 1,
      intermediateSize: 1,
      numExperts: 1,
      topK: 1,
      activation: "none",
      dtype,
      router: device().tensor([[1]]),
      experts: [{ up: device().tensor([[1 + 2 ** -12]]), down: device().tensor([[1 + 2 ** -7]]) }],
    });
  const x = device().tensor([[1 + 2 ** -7]]);
  const forward = (dtype: FloatDType) => create(dtype).forward(x).dataSync()[0];
  expect(forward("f32")).toBe(Math.fround((1 + 2 ** -7) ** 2 * (1 + 2 ** -12)));
  expect(forward("bf16")).toBe(Math.fround((1 + 2 ** -7) ** 2));
});
