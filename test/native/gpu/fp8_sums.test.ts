import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { openDevice } from "../../../lib/devices.js";
import { tokenGemmCases, tokenLayerCases } from "../../../lib/testing/cases/token_formats.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { runCase } from "../../../lib/testing/run.js";
import { deviceNames, hopperPath, openForTests } from "../../support/devices.js";
import { anyProduct, roundedProduct } from "../../support/rounded_products.js";

// Products of fp8 codes in the sums of tensor cores, which keep about 13 bits. GPUs without the instruction give the
// results that they give without the option.

const gpus = [...deviceNames.filter((name) => name === "simt" || name.startsWith("cuda")), hopperPath];
const reference = openDevice("reference");
afterAll(() => reference.dispose());

/** Of products; where the inner activations of layers differ in their last bits, so may their codes. */
const tolerances = { groupedGemm: 1e-3, layer: 5e-2 } as const;
const cases = [...tokenGemmCases, ...tokenLayerCases].filter(({ name }) => name.startsWith("fp8"));
const formats = ["e4m3_channel_f32", "e4m3_g128_bf16", "e4m3_g32_e8m0", "e4m3_g16_f32", "e4m3_g256_f32"] as const;

describe.each(gpus.map((gpu) => ({ gpu, label: typeof gpu === "string" ? gpu : gpu.label })))(
  "fp8 products on $label with fp8Sums",
  ({ gpu, label }) => {
    const device = openForTests(gpu, { fp8Sums: true });
    const exact = openForTests(gpu);

    test.each(cases)("$operator: $name", async (subject) => {
      const least = tolerances[subject.operator as keyof typeof tolerances];
      const { checks } = await runCase(
        { ...subject, tolerances: { y: Math.max(subject.tolerances.y as number, least) } },
        device(),
      );
      for (const check of checks) expect(check).toMatchObject({ passed: true });
    });

    test("products of any sizes are those of the reference", async () => {
      await fc.assert(
        fc.asyncProperty(anyProduct(formats, ["fp8", "fp8_ue8m0"]), async (problem) => {
          const expected = await roundedProduct(reference, problem);
          expect(relativeError(await roundedProduct(device(), problem), expected)).toBeLessThan(2e-3);
        }),
        { numRuns: 25 },
      );
    });

    test("only products of two such codes change", async () => {
      const problem = {
        change: "none",
        activation: "none",
        rowsOfExperts: [3, 0, 20],
        columns: 300,
        outputs: 9,
        seed: 1,
      } as const;
      for (const [format, tokenFormat, changes] of [
        ["e4m3_b128_f32", "fp8", true],
        ["e4m3_b128_f32", "int8", false],
        ["i8_channel_f32", "fp8", false],
      ] as const) {
        const product = { ...problem, rowsOfExperts: [...problem.rowsOfExperts], format, tokenFormat };
        const [some, other] = [await roundedProduct(device(), product), await roundedProduct(exact(), product)];
        if (!changes) expect(some).toEqual(other);
        else if (label.startsWith("simt")) expect(some).not.toEqual(other);
      }
    });
  },
);
