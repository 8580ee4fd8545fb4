import { afterAll, describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import { type Activation, isGated } from "../../../lib/core/layer/activation.js";
import type { FloatDType } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { MoeLayer } from "../../../lib/moe_layer.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../../lib/testing/inputs/random_quantized.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

// Experts in quantised formats through the operators and layers. That every format's products are right is tested in
// test/native/simt_device.

const gpuNames = deviceNames.filter((name) => name === "simt" || name.startsWith("cuda"));
const reference = openDevice("reference");
afterAll(() => reference.dispose());

const formats = [
  "i4_g32_bf16",
  "u4_g128_f16",
  "i8_channel_f32",
  "e4m3_g32_e8m0",
  "mxfp4",
  "nvfp4",
  "nf4_g64_f32",
  "nf4_nested",
  "q4_k",
];
const tokenTypes: readonly FloatDType[] = ["f32", "f16", "bf16"];

describe.each(gpuNames)("quantised experts on %s", (name) => {
  const device = openForTests(name);

  function multiply(on: Device, format: string, x: FloatDType, activation: Activation): Float64Array {
    const random = new Random(`${format} ${x}`);
    const [columns, outputs, experts] = [200, 22, 3];
    const rows = isGated(activation) ? 2 * outputs : outputs;
    const weight = randomQuantized(on, random, format, [rows, columns], columns ** -0.5, [experts]);
    using packed = packExperts(weight, { activation });
    using tokens = on.tensor(random.normals(9 * columns), [9, columns], x);
    using tokenOfRow = on.tensor(Int32Array.from({ length: 14 }, () => random.integer(0, 8)));
    using offsets = on.tensor(Int32Array.of(0, 3, 3, 14));
    using bias = on.tensor(random.normals(experts * rows), [experts, rows]);
    using out = on.empty([14, outputs], "f32");
    return Float64Array.from(groupedGemm(tokens, packed, offsets, { tokenOfRow, bias, out }).dataSync());
  }

  test.each(formats.flatMap((format) => tokenTypes.map((x) => ({ format, x }))))(
    "$x tokens times $format give the results of reference",
    ({ format, x }) => {
      for (const activation of ["silu", "swiglu"] as const) {
        const expected = multiply(reference, format, x, activation);
        expect(expected.some((value) => value !== 0)).toBe(true);
        expect(relativeError(multiply(device(), format, x, activation), expected)).toBeLessThan(1e-5);
      }
    },
  );

  function forward(on: Device, roles: Record<"gate" | "up" | "down", string>, dtype: FloatDType): Float64Array {
    const random = new Random(Object.values(roles).join());
    const [hidden, inner, experts, tokens] = [72, 64, 4, 5];
    const list = Array.from({ length: experts }, () => ({
      gate: randomQuantized(on, random, roles.gate, [inner, hidden]),
      up: randomQuantized(on, random, roles.up, [inner, hidden]),
      down: randomQuantized(on, random, roles.down, [hidden, inner]),
    }));
    const router = on.tensor(random.normals(experts * hidden, hidden ** -0.5), [experts, hidden]);
    const x = on.tensor(random.normals(tokens * hidden), [tokens, hidden], dtype);
    const config = { hiddenSize: hidden, intermediateSize: inner, numExperts: experts, topK: 2 } as const;
    using layer = MoeLayer.create({ ...config, device: on, router, experts: list });
    return Float64Array.from(layer.forward(x).dataSync());
  }

  test.each([
    { gate: "mxfp4", up: "mxfp4", down: "mxfp4" },
    { gate: "q4_k", up: "q4_k", down: "q6_k" },
    { gate: "i4_g32_bf16", up: "u4_g16_f32", down: "e4m3_b128_f32" },
  ])("layers of $gate, $up and $down give the results of reference", (roles) => {
    for (const [dtype, tolerance] of [
      ["f32", 1e-5],
      ["f16", 2e-3],
      ["bf16", 1.6e-2],
    ] as const) {
      const expected = forward(reference, roles, dtype);
      expect(relativeError(forward(device(), roles, dtype), expected)).toBeLessThan(tolerance);
    }
  });

  test.each(["mxfp4", "q4_k", "nf4_g64_f32"])("%s: a row has the same bits in tiles of every height", (format) => {
    const random = new Random(format);
    const [columns, outputs] = [200, 18];
    using packed = packExperts(randomQuantized(device(), random, format, [outputs, columns], 0.1, [1]));
    for (const dtype of tokenTypes) {
      using x = device().tensor(random.normals(130 * columns), [130, columns], dtype);
      const products = [130, 40, 5].map((rows) => {
        using offsets = device().tensor(Int32Array.of(0, rows));
        return [...groupedGemm(x.rows(0, rows), packed, offsets).dataSync()];
      });
      for (const product of products) expect(product).toEqual(products[0]?.slice(0, product.length));
    }
  });

  test("NaN among the codes is an error", () => {
    const weight = randomQuantized(device(), new Random("nan"), "e4m3_channel_f32", [4, 32], 1, [2]);
    const codes = weight.codes.dataSync();
    codes[4 * 32 + 2 * 32 + 5] = 0xff;
    weight.codes.write(codes);
    expectError(
      () => {
        using _ = packExperts(weight);
        device().synchronizeSync();
      },
      "INVALID_ARGUMENT",
      /e4m3_channel_f32: expected numbers, got NaN as the code of row 2, column 5/,
    );
  });
});
