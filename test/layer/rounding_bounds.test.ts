import { expect, test } from "vitest";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { openForTests } from "../support/devices.js";
import { exampleConfig, type LayerProblem, RandomLayer } from "../support/random_layer.js";
import { errorWithin, roundingBounds } from "../support/rounding_bounds.js";

const reference = openForTests("reference");

test.each([
  ["f32", "f16", 1 / 64],
  ["f16", "bf16", 1 / 8],
  ["bf16", "bf16", 1 / 16],
] as const)("bounds for %s notice tokens rounded to %s and scaled by 1 - %d", async (dtype, coarse, change) => {
  const problem: LayerProblem = { config: { ...exampleConfig, multiplier: true }, tokens: 20, dtype, seed: 3 };
  using layer = new RandomLayer(reference(), problem);
  const { ids, weights } = layer.layer.route(layer.x);
  const routing = { ids, weights };
  const run = async (tokens: Float32Array, rounding: FloatDType) => {
    using rounded = reference().tensor(tokens, layer.x.shape, rounding);
    using x = reference().tensor(await rounded.data(), layer.x.shape, dtype);
    using y = layer.layer.forward(x, { routing });
    return Float32Array.from(await y.data());
  };
  const x = Float32Array.from(await layer.x.data());
  const bounds = roundingBounds(reference(), problem, { x, ids: await ids.data(), weights: await weights.data() });
  const expected = await run(x, dtype);
  expect(errorWithin(await run(x, dtype), expected, bounds)).toBe(0);
  expect(
    errorWithin(
      await run(
        x.map((value) => value * (1 - change)),
        coarse,
      ),
      expected,
      bounds,
    ),
  ).toBeGreaterThan(1);
  expect(
    errorWithin(
      expected.map(() => Number.NaN),
      expected,
      bounds,
    ),
  ).toBe(Infinity);
});
