import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { loadNative } from "../../../lib/core/addon/native.js";
import type { Device } from "../../../lib/core/device/device.js";
import { activations } from "../../../lib/core/layer/activation.js";
import { openDevice } from "../../../lib/devices.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { groupedGemmCase, groupedGemmCases } from "../../../lib/testing/cases/grouped_gemm.js";
import { groupedGemmBackwardCases } from "../../../lib/testing/cases/grouped_gemm_backward.js";
import { layerCases } from "../../../lib/testing/cases/layer.js";
import { quantizedLayerCases } from "../../../lib/testing/cases/quantized_weights.js";
import { tokenLayerCases } from "../../../lib/testing/cases/token_formats.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { runCase } from "../../../lib/testing/run.js";
import { asHopper, hopperPath, openForTests, withVariable } from "../../support/devices.js";
import { anyProduct, roundedProduct } from "../../support/rounded_products.js";

// The kernels of GPUs of compute capability 9.0. Their products of every quantised format are tested in
// test/native/simt_device, too.

const device = openForTests(hopperPath);
const reference = openForTests("reference");
const halves = ["bf16", "f16"] as const;

test("they are chosen", () => {
  const rows = () =>
    loadNative()
      .kernels()
      .filter((row) => row.device === "simt" && /mma_/.test(row.name) && row.chosen !== "");
  const chosen = (found: ReturnType<typeof rows>) => found.map(({ name, chosen }) => `${name}: ${chosen}`);
  expect(chosen(asHopper(rows))).toEqual([
    "wgmma_bf16: bf16",
    "wgmma_f16: f16",
    "mma_tf32: f32 with tf32",
    "wgmma_quantized_int8: int8 codes",
    "wgmma_quantized_fp8: fp8 codes with fp8Sums",
    "wgmma_quantized_bf16: bf16",
    "wgmma_quantized_f16: f16",
  ]);
  expect(chosen(rows()).filter((row) => row.startsWith("wgmma"))).toEqual([]);
});

test.each(["79", "122", "9.0", ""])("MOE_GPU_CAPABILITY=%s is refused", (value) => {
  expect(() => withVariable("MOE_GPU_CAPABILITY", value, () => openDevice("simt"))).toThrow(
    `MOE_GPU_CAPABILITY must be from 80, for compute capability 8.0, to 121, got "${value}"`,
  );
});

describe("as on Hopper", () => {
  const cases = [
    ...[...groupedGemmCases, ...groupedGemmBackwardCases, ...layerCases].filter(({ name }) =>
      /\b(bf16|f16)\b/.test(name),
    ),
    ...quantizedLayerCases,
    ...tokenLayerCases,
  ];

  test.each(cases)("$operator: $name", async (subject) => {
    const { checks } = await runCase(subject, device());
    for (const check of checks) expect(check).toMatchObject({ passed: true });
  });

  test("products of any sizes are those of the reference", async () => {
    const problem = fc.record({
      rows: fc.array(fc.integer({ min: 0, max: 90 }), { minLength: 1, maxLength: 3 }),
      columns: fc.integer({ min: 1, max: 400 }),
      outputs: fc.integer({ min: 1, max: 300 }),
      activation: fc.constantFrom(...activations),
      dtypes: fc.constantFrom(...halves.map((dtype) => [dtype, dtype] as const)),
      bias: fc.constantFrom("f32", undefined),
      gatherFrom: fc.constantFrom(40, undefined),
      rowsBehind: fc.integer({ min: 0, max: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(problem, async (drawn) => {
        const { checks } = await runCase(groupedGemmCase(drawn as Parameters<typeof groupedGemmCase>[0]), device());
        for (const check of checks) expect(check).toMatchObject({ passed: true });
      }),
      { numRuns: 15 },
    );
  });

  test("products of codes of any sizes are those of the reference", async () => {
    const formats = ["i4_g32_bf16", "u4_g128_f16", "i8_g48_f32", "mxfp4", "nvfp4", "q4_k", "e4m3_g128_bf16"] as const;
    await fc.assert(
      fc.asyncProperty(anyProduct(formats), async (problem) => {
        const expected = await roundedProduct(reference(), problem);
        expect(relativeError(await roundedProduct(device(), problem), expected)).toBeLessThan(1e-5);
      }),
      { numRuns: 15 },
    );
  });

  test.each(halves)("a row has the same bits alone, among few and among many: %s", (dtype) => {
    const results = [1, 60, 200].map((rows) => firstRow(device(), dtype, rows));
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });
});

/** The first of some rows that one expert multiplies: tiles of 64 rows, or of 128. */
function firstRow(on: Device, dtype: (typeof halves)[number], rows: number): Float32Array {
  const random = new Random("rows");
  const [columns, outputs] = [200, 300];
  using packed = packExperts(on.tensor(random.normals(outputs * columns), [1, outputs, columns], dtype));
  using x = on.tensor(random.normals(rows * columns), [rows, columns], dtype);
  using offsets = on.tensor(Int32Array.of(0, rows));
  using y = groupedGemm(x, packed, offsets);
  return y.dataSync().slice(0, outputs) as Float32Array;
}
