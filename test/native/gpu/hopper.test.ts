import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { activations } from "../../../lib/core/activation.js";
import type { Device } from "../../../lib/core/device.js";
import { loadNative } from "../../../lib/core/native.js";
import { openDevice } from "../../../lib/devices.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { groupedGemmCase, groupedGemmCases } from "../../../lib/testing/grouped_gemm_cases.js";
import { layerCases } from "../../../lib/testing/layer_cases.js";
import { Random } from "../../../lib/testing/random.js";
import { runCase } from "../../../lib/testing/run.js";
import { openForTests, withVariable } from "../../support/devices.js";

// The kernels of GPUs of compute capability 9.0, which products in bfloat16 and binary16 have for themselves.

const asHopper = <T>(work: () => T) => withVariable("MOE_GPU_CAPABILITY", "90", work);
const device = openForTests({ label: "simt", open: (options) => asHopper(() => openDevice("simt", options)) });
const halves = ["bf16", "f16"] as const;

test("they are chosen", () => {
  const rows = () =>
    loadNative()
      .kernels()
      .filter((row) => row.device === "simt" && /mma_b?f16$/.test(row.name));
  const chosen = (found: ReturnType<typeof rows>) => found.map(({ name, chosen }) => `${name}: ${chosen}`);
  expect(chosen(asHopper(rows))).toEqual(["wgmma_bf16: bf16", "wgmma_f16: f16", "mma_bf16: ", "mma_f16: "]);
  expect(chosen(rows())).toEqual(["wgmma_bf16: ", "wgmma_f16: ", "mma_bf16: bf16", "mma_f16: f16"]);
});

test.each(["79", "122", "9.0", ""])("MOE_GPU_CAPABILITY=%s is refused", (value) => {
  expect(() => withVariable("MOE_GPU_CAPABILITY", value, () => openDevice("simt"))).toThrow(
    `MOE_GPU_CAPABILITY must be from 80, for compute capability 8.0, to 121, got "${value}"`,
  );
});

describe("as on Hopper", () => {
  const cases = [...groupedGemmCases, ...layerCases].filter(({ name }) => /\b(bf16|f16)\b/.test(name));

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
