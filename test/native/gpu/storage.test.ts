import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import type { FloatDType } from "../../../lib/core/tensors/dtype.js";
import { shapeSize } from "../../../lib/core/tensors/shape.js";
import { openDevice } from "../../../lib/devices.js";
import type { WeightDTypes } from "../../../lib/layer/description/storage.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomExpert } from "../../../lib/testing/inputs/random_expert.js";
import { deviceNames, openForTests } from "../../support/devices.js";

// Layers with a storage format per role, and banks, on GPU devices.

const gpuNames = deviceNames.filter((name) => name === "simt" || name.startsWith("cuda"));
const config = {
  hiddenSize: 45,
  intermediateSize: 38,
  numExperts: 6,
  topK: 3,
  activation: "swiglu_clamped",
  multiplier: true,
} as const;

interface Asked {
  readonly x: FloatDType;
  readonly weights: FloatDType;
  readonly dtype: WeightDTypes;
  readonly bank?: { readonly first: number; readonly count: number };
}

function forward(device: Device, { x: xType, weights, dtype, bank }: Asked): number[] {
  const random = new Random("storage");
  const { hiddenSize, intermediateSize, numExperts } = config;
  const draw = (shape: readonly number[], deviation: number) =>
    device.tensor(random.normals(shapeSize(shape), deviation), shape, weights);
  const x = device.tensor(random.normals(40 * hiddenSize), [40, hiddenSize], xType);
  const router = draw([numExperts, hiddenSize], hiddenSize ** -0.5);
  const all = Array.from({ length: numExperts }, () => randomExpert(draw, config, intermediateSize, true));
  const experts = bank === undefined ? all : all.slice(bank.first, bank.first + bank.count);
  using layer = MoeLayer.create({ ...config, device, router, experts, dtype, ...(bank && { bank }) });
  using y = layer.forward(x);
  return [...y.dataSync()];
}

function distance(actual: number[], expected: number[]): number {
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return actual.reduce((max, value, i) => Math.max(max, Math.abs(value - (expected[i] as number))), 0) / largest;
}

describe.each(gpuNames)("weights by role on %s", (name) => {
  const device = openForTests(name);

  test.each<Asked & { tolerance: number }>([
    { x: "f32", weights: "f32", dtype: { gate: "f32", up: "bf16", down: "f16" }, tolerance: 3e-6 },
    {
      x: "f32",
      weights: "bf16",
      dtype: { gate: "bf16", up: "f32", multiplier: "f16", biases: "bf16" },
      tolerance: 3e-6,
    },
    { x: "bf16", weights: "bf16", dtype: { gate: "f32" }, tolerance: 1e-2 },
    { x: "bf16", weights: "f32", dtype: { experts: "bf16", router: "f32", down: "f32" }, tolerance: 1e-2 },
    { x: "f16", weights: "f16", dtype: { up: "bf16" }, tolerance: 2e-3 },
  ])("$x tokens, $weights stored as $dtype, give the results of reference", ({ tolerance, ...asked }) => {
    using reference = openDevice("reference");
    expect(distance(forward(device(), asked), forward(reference, asked))).toBeLessThan(tolerance);
  });

  test("the outputs of banks add up to the layer's", () => {
    const asked: Asked = { x: "f32", weights: "f32", dtype: {} };
    const whole = forward(device(), asked);
    const banks = [
      { first: 0, count: 2 },
      { first: 2, count: 3 },
      { first: 5, count: 1 },
    ].map((bank) => forward(device(), { ...asked, bank }));
    const sums = whole.map((_, i) => banks.reduce((sum, bank) => sum + (bank[i] as number), 0));
    expect(distance(sums, whole)).toBeLessThan(2e-6);
    device().synchronizeSync();
  });
});
