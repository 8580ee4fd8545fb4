import { describe, expect, test } from "vitest";
import type { Device } from "../../lib/core/device/device.js";
import { freeWeight } from "../../lib/core/formats/weight_format.js";
import { type Activation, defaultClamp, isGated } from "../../lib/core/layer/activation.js";
import type { FloatDType } from "../../lib/core/tensors/dtype.js";
import { openDevice } from "../../lib/devices.js";
import { Random } from "../../lib/testing/inputs/random.js";
import { kernelPaths, openForTests } from "../support/devices.js";
import { expectError } from "../support/errors.js";
import { randomU4G16, testU4G16 } from "./formats.js";

interface Product {
  readonly outputs: number;
  readonly columns: number;
  readonly activation: Activation;
  readonly dtype: FloatDType;
  /** The format in which the weights are packed. */
  readonly stored: string;
}

const offsets = Int32Array.of(0, 3, 3, 20);

/** y [20, outputs] of three experts, with weights from the product's seed. */
async function multiply(device: Device, { outputs, columns, activation, dtype, stored }: Product) {
  const random = new Random(`${outputs} ${columns} ${activation}`);
  const gated = isGated(activation);
  const rows = gated ? 2 * outputs : outputs;
  const packed = device.backend.packedExperts(3, rows, columns, stored, activation, defaultClamp, "none");
  for (let expert = 0; expert < 3; expert++) {
    const weight = randomU4G16(device, random, outputs, columns, 0.2);
    const up = gated ? randomU4G16(device, random, outputs, columns, 0.2) : null;
    packed.setExpert(expert, weight, up);
    freeWeight(weight);
    if (up !== null) freeWeight(up);
  }
  const values = Float32Array.from({ length: 20 * columns }, () => random.uniform() - 0.5);
  using x = device.tensor(values, [20, columns], dtype);
  using bounds = device.tensor(offsets, [4]);
  using y = device.empty([20, outputs], "f32");
  device.backend.groupedGemm({
    x: x.handle,
    weight: packed,
    bias: undefined,
    offsets: bounds.handle,
    tokenOfRow: undefined,
    y: y.handle,
  });
  packed.free();
  return Float32Array.from(await y.data());
}

const products: readonly Product[] = (["f32", "f16", "bf16"] as const).flatMap((dtype) =>
  [testU4G16.name, "f32"].flatMap((stored) => [
    { outputs: 1, columns: 1, activation: "none" as const, dtype, stored },
    { outputs: 37, columns: 100, activation: "silu" as const, dtype, stored },
    { outputs: 33, columns: 64, activation: "swiglu_clamped" as const, dtype, stored },
  ]),
);

describe.each(kernelPaths)("products with a weight format added from outside on $label", (path) => {
  const device = openForTests(path);

  test.each(products)("multiplies: $outputs x $columns, $activation, $dtype, packed as $stored", async (product) => {
    using reference = openDevice("reference");
    const expected = await multiply(reference, product);
    const y = await multiply(device(), product);
    const scale = Math.max(...expected.map(Math.abs));
    const error = Math.max(...y.map((value, index) => Math.abs(value - (expected[index] as number))));
    expect(scale).toBeGreaterThan(0);
    expect(error).toBeLessThan(4e-6 * scale);
  });

  test("takes only weights of its own format", () => {
    const packed = device().backend.packedExperts(1, 2, 16, testU4G16.name, "none", defaultClamp, "none");
    using plain = device().tensor(new Float32Array(32), [2, 16]);
    const codes = { handle: plain.handle, rows: 2, columns: 16, rowStride: 16, columnStride: 1 };
    expectError(
      () => {
        packed.setExpert(0, { format: "f32", rows: 2, columns: 16, codes }, null);
        device().synchronizeSync();
      },
      "UNSUPPORTED_DTYPE",
      /test_u4_g16.*f32/,
    );
    packed.free();
  });
});
