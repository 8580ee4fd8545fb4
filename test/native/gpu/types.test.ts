import { afterAll, describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import type { TokenFormat } from "../../../lib/core/formats/token_format.js";
import type { WeightFormatName } from "../../../lib/core/formats/weight_format.js";
import { scorings } from "../../../lib/core/layer/routing_rule.js";
import type { FloatDType } from "../../../lib/core/tensors/dtype.js";
import { openDevice } from "../../../lib/devices.js";
import { groupedGemm } from "../../../lib/operators/experts/grouped_gemm.js";
import { groupedGemmWeightBackward } from "../../../lib/operators/experts/grouped_gemm_weight_backward.js";
import { packExperts } from "../../../lib/operators/experts/packed_experts.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { hierarchicalGating } from "../../../lib/operators/routing/hierarchical_gating.js";
import { hierarchicalGatingBackward } from "../../../lib/operators/routing/hierarchical_gating_backward.js";
import { routerProjection } from "../../../lib/operators/routing/router_projection.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { randomQuantized } from "../../../lib/testing/inputs/random_quantized.js";
import { hopperPath, kernelPaths, openForTests } from "../../support/devices.js";
import { valuesOf } from "../../support/float64.js";

// Kernels are compiled for every type of element and every tile. Here each of them computes something.

const paths = [...kernelPaths.filter(({ label }) => label === "simt" || label.startsWith("cuda")), hopperPath];
const dtypes: readonly FloatDType[] = ["f32", "f16", "bf16"];
const pairs = dtypes.flatMap((x) => dtypes.map((weight) => ({ x, weight })));

/** Formats with codes of every width and kind that tensor cores multiply, with and without minima. */
const formats: readonly WeightFormatName[] = [
  ...(["i2_g32_f32", "i3_g32_f32", "i4_g32_bf16", "i5_g32_f16", "i6_b128_bf16", "i8_channel_f32"] as const),
  ...(["u3_g32_f32", "u6_g32_f32", "u8_channel_f32", "nf4_g64_f32"] as const),
  ...(["q2_k", "q4_k", "q5_k", "q6_k", "iq3_xxs", "iq2_xxs", "mxfp4", "e4m3_b128_f32"] as const),
];
const tokens: readonly { dtype: FloatDType; tokenFormat: TokenFormat }[] = [
  ...dtypes.map((dtype) => ({ dtype, tokenFormat: "none" as const })),
  ...dtypes.flatMap((dtype) => (["int8", "fp8"] as const).map((tokenFormat) => ({ dtype, tokenFormat }))),
];

const reference = openDevice("reference");
afterAll(() => reference.dispose());

/** What a computation gives on reference and on a device. */
const both = <T>(device: Device, compute: (on: Device) => T) => ({
  expected: compute(reference),
  actual: compute(device),
});

describe.each(paths)("on $label", (path) => {
  // Sums of fp8 tensor cores have fewer digits.
  const device = openForTests(path, { fp8Sums: true });

  describe.each(formats)("%s", (format) => {
    test.each(tokens)("times $dtype rows with tokens of $tokenFormat, in tiles of every height", (given) => {
      const [columns, outputs, most] = [320, 24, 130];
      const { dtype, tokenFormat } = given;
      const multiply = (on: Device, rows: number) => {
        const random = new Random(format);
        using packed = packExperts(randomQuantized(on, random, format, [outputs, columns], 0.1, [1]), { tokenFormat });
        using x = on.tensor(random.normals(most * columns), [most, columns], dtype);
        using offsets = on.tensor(Int32Array.of(0, rows));
        using out = on.empty([rows, outputs], "f32");
        return valuesOf(groupedGemm(x.rows(0, rows), packed, offsets, { out }));
      };
      const { expected, actual } = both(device(), (on) => multiply(on, most));
      const tolerance = tokenFormat === "fp8" && format === "e4m3_b128_f32" ? 1e-3 : 1e-5;
      expect(relativeError(actual, expected)).toBeLessThan(tolerance);
      for (const rows of [40, 5]) expect(multiply(device(), rows)).toEqual(actual.subarray(0, rows * outputs));
    });
  });

  test.each(pairs)("router projection of $x tokens and $weight weights, in tiles of every size", (types) => {
    for (const [rows, experts] of [
      [2, 8],
      [33, 64],
      [128, 64],
      [700, 256],
    ] as const) {
      const { expected, actual } = both(device(), (on) => {
        const random = new Random("router");
        const hidden = 40;
        using x = on.tensor(random.normals(rows * hidden), [rows, hidden], types.x);
        using weight = on.tensor(random.normals(experts * hidden), [experts, hidden], types.weight);
        return valuesOf(routerProjection(x, weight));
      });
      expect(relativeError(actual, expected)).toBeLessThan(1e-6);
    }
  });

  test.each(dtypes)("gating of %s logits among few and many experts, by logits and by other keys", (dtype) => {
    for (const experts of [20, 60, 250, 1500]) {
      for (const biased of [false, true]) {
        const { expected, actual } = both(device(), (on) => {
          const random = new Random("gating");
          using logits = on.tensor(random.normals(9 * experts), [9, experts], dtype);
          using selectionBias = on.tensor(random.normals(experts, 0.3), [experts]);
          const { ids, weights } = gating(logits, { topK: 5, ...(biased && { selectionBias }) });
          return { ids: ids.dataSync(), weights: valuesOf(weights) };
        });
        expect(actual.ids).toEqual(expected.ids);
        expect(relativeError(actual.weights, expected.weights)).toBeLessThan(1e-6);
      }
    }
  });

  test.each(scorings)("gradients of gating in two steps, with groups scored by %s", (scoring) => {
    const [tokens, groups, size] = [5, 6, 8];
    for (const inner of scorings) {
      const rules = { groups: { topK: 2, scoring }, experts: { topK: 3, scoring: inner } };
      const { expected, actual } = both(device(), (on) => {
        const random = new Random("two steps");
        using groupLogits = on.tensor(random.normals(tokens * groups), [tokens, groups]);
        using logits = on.tensor(random.normals(tokens * groups * size), [tokens, groups * size]);
        using dWeights = on.tensor(random.normals(tokens * 6), [tokens, 6]);
        const { ids } = hierarchicalGating(groupLogits, logits, rules);
        const gradients = hierarchicalGatingBackward(groupLogits, logits, { ids }, dWeights, rules);
        return { dGroupLogits: valuesOf(gradients.dGroupLogits), dLogits: valuesOf(gradients.dLogits) };
      });
      expect(relativeError(actual.dGroupLogits, expected.dGroupLogits)).toBeLessThan(1e-5);
      expect(relativeError(actual.dLogits, expected.dLogits)).toBeLessThan(1e-5);
    }
  });

  test.each(pairs)("gradients of weights from $x rows and $weight gradients, in tiles of every size", (types) => {
    // Larger tiles are for more of them than the GPU has multiprocessors.
    for (const [experts, outputs, columns] of [
      [1, 20, 24],
      [100, 136, 136],
      [600, 20, 24],
    ] as const) {
      const { expected, actual } = both(device(), (on) => {
        const random = new Random("gradient");
        const rows = 2 * experts;
        using x = on.tensor(random.normals(rows * columns), [rows, columns], types.x);
        using dy = on.tensor(random.normals(rows * outputs), [rows, outputs], types.weight);
        using offsets = on.tensor(Int32Array.from({ length: experts + 1 }, (_, expert) => 2 * expert));
        return valuesOf(groupedGemmWeightBackward(x, dy, offsets).dWeight);
      });
      expect(relativeError(actual, expected)).toBeLessThan(1e-5);
    }
  });
});
