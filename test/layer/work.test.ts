import { describe, expect, test } from "vitest";
import { describeLayer, type MoeLayerConfig } from "../../lib/layer/description/config.js";
import {
  countedRows,
  countWeights,
  expectedRows,
  expectedWork,
  layerWork,
  totalWeights,
} from "../../lib/layer/work.js";
import { Random } from "../../lib/testing/inputs/random.js";

const [H, I, E, k, T] = [64, 32, 16, 4, 10];
const config: MoeLayerConfig = { hiddenSize: H, intermediateSize: I, numExperts: E, topK: k };
const described = (more: Partial<MoeLayerConfig> = {}) => describeLayer({ ...config, ...more }, "bf16");

describe("parameters", () => {
  test.each<[Partial<MoeLayerConfig>, number]>([
    [{}, E * H + E * 3 * I * H],
    [{ activation: "relu" }, E * H + E * 2 * I * H],
    [{ multiplier: true }, E * H + E * 4 * I * H],
    [{ sharedExpert: { intermediateSize: 2 * I } }, E * H + E * 3 * I * H + 3 * 2 * I * H],
    [{ sharedExpert: { intermediateSize: I, gate: "sigmoid" } }, E * H + (E + 1) * 3 * I * H + H],
    [{ sharedExpert: { intermediateSize: I, gate: "softmax" } }, E * H + (E + 1) * 3 * I * H + 2 * H],
    [{ latent: { size: 24 } }, E * H + E * 3 * I * 24 + 2 * 24 * H],
    [
      { latent: { size: 24, norm: {} }, sharedExpert: { intermediateSize: I } },
      E * H + 3 * I * (E * 24 + H) + 2 * 24 * H,
    ],
  ])("%j", (more, count) => expect(totalWeights(countWeights(described(more)), E)).toBe(count));

  test("a shared expert of its own width", () => {
    const description = described({ sharedExpert: { intermediateSize: I + 1 } });
    expect(countWeights(description, I + 1).shared).toEqual({ gateUp: 2 * (I + 1) * H, down: (I + 1) * H });
    expect(countWeights(description).shared).toEqual({ gateUp: 2 * 2 * I * H, down: 2 * I * H });
  });

  test("parameters that one token uses", () => {
    expect(totalWeights(countWeights(described()), k)).toBe(E * H + k * 3 * I * H);
  });

  test.each([
    // Mixtral-8x7B (arXiv 2401.04088): 45.1e9 of its 46.7e9 weights are experts'; DeepSeek-V3: 654e9 of 671e9.
    [{ hiddenSize: 4096, intermediateSize: 14336, numExperts: 8, topK: 2 }, 32, 45.1e9],
    [{ hiddenSize: 7168, intermediateSize: 2048, numExperts: 256, topK: 8 }, 58, 653.9e9],
    // Kimi K3: of its 2.8e12 weights, 92 layers of 896 experts on tokens of half the width.
    [
      {
        ...{ hiddenSize: 7168, intermediateSize: 3072, numExperts: 896, topK: 16, latent: { size: 3584 } },
        sharedExpert: { intermediateSize: 6144 },
      },
      92,
      2.7405e12,
    ],
  ])("published models %j", (sizes, layers, count) => {
    const total = layers * totalWeights(countWeights(describeLayer(sizes, "bf16")), sizes.numExperts);
    expect(Math.abs(total / count - 1)).toBeLessThan(2e-3);
  });
});

describe("load", () => {
  test("counted", () => {
    expect(countedRows(3, Int32Array.of(2, 0, 4))).toEqual({ tokens: 3, rows: 6, touchedExperts: 2 });
  });

  test("expected: none, one token, one expert, many", () => {
    const touched = (more: Partial<MoeLayerConfig>, tokens: number) =>
      expectedRows(described(more), tokens).touchedExperts;
    expect(touched({}, 0)).toBe(0);
    expect(touched({}, 1)).toBeCloseTo(k, 12);
    expect(touched({ topK: E }, 1)).toBe(E);
    expect(touched({ numExperts: 1, topK: 1 }, 5)).toBe(1);
    expect(touched({}, 1e6)).toBe(E);
    expect(expectedRows(described(), T)).toMatchObject({ tokens: T, rows: T * k });
    // Of the choices, those of experts with weights.
    const [identity, none] = [{ numExperts: 2 * E, identityExperts: E }, { numExperts: 2 * E }];
    expect(expectedRows(described(identity), T).rows).toBe((T * k) / 2);
    expect(touched(identity, T)).toBeCloseTo(touched(none, T) / 2, 12);
  });

  test("expected rows are the average of counted rows for uniform choices", () => {
    const random = new Random("load");
    const rounds = 2000;
    let touched = 0;
    for (let round = 0; round < rounds; round++) {
      const chosen = new Set<number>();
      for (let token = 0; token < T; token++) {
        const experts = Array.from({ length: E }, (_, expert) => [expert, random.integer(0, 2 ** 30)] as const);
        for (const [expert] of experts.sort((a, b) => a[1] - b[1]).slice(0, k)) chosen.add(expert);
      }
      touched += chosen.size;
    }
    expect(touched / rounds).toBeCloseTo(expectedRows(described(), T).touchedExperts, 0.5);
  });
});

describe("work", () => {
  test("of the chosen experts, the router and the combine", () => {
    const { stages, activationBytes, operations, weightBytes } = layerWork(
      described({ multiplier: true }),
      { tokens: T, rows: 37, touchedExperts: 9 },
      "f32",
    );
    expect(stages.router).toEqual({ operations: 2 * T * E * H, weightBytes: E * H * 2 });
    expect(stages.gateUp).toEqual({ operations: 2 * 37 * 3 * I * H, weightBytes: 9 * 3 * I * H * 2 });
    expect(stages.down).toEqual({ operations: 2 * 37 * I * H, weightBytes: 9 * I * H * 2 });
    expect(stages.combine).toEqual({ operations: 2 * 37 * H, weightBytes: 0 });
    expect(activationBytes).toBe(2 * T * H * 4);
    const all = Object.values(stages);
    expect(operations).toBe(all.reduce((total, stage) => total + stage.operations, 0));
    expect(weightBytes).toBe(all.reduce((total, stage) => total + stage.weightBytes, 0));
  });

  test("of the shared expert: all tokens, its weights once, however many experts are touched", () => {
    const shared = described({ sharedExpert: { intermediateSize: 2 * I, gate: "sigmoid" } });
    const load = { tokens: T, rows: 0, touchedExperts: 0 };
    const { stages } = layerWork(shared, load, "bf16");
    expect(stages.router).toEqual({ operations: 2 * T * (E + 1) * H, weightBytes: (E + 1) * H * 2 });
    expect(stages.gateUp).toEqual({ operations: 2 * T * 2 * 2 * I * H, weightBytes: 2 * 2 * I * H * 2 });
    expect(stages.down).toEqual({ operations: 2 * T * 2 * I * H, weightBytes: 2 * I * H * 2 });
    expect(stages.combine.operations).toBe(2 * T * 2 * H);
  });
});

test("expected work, per token and byte", () => {
  const description = described();
  const { tokens, touchedExperts, bytes, bytesPerToken, operationsPerToken, operationsPerByte } = expectedWork(
    description,
    T,
    "f16",
  );
  const touched = E * (1 - (1 - k / E) ** T);
  expect({ tokens, touchedExperts }).toEqual({ tokens: T, touchedExperts: touched });
  expect(bytes).toBeCloseTo(2 * (touched * 3 * I * H + E * H + 2 * T * H), 6);
  expect(bytesPerToken).toBe(bytes / T);
  expect(operationsPerToken).toBe(2 * (k * 3 * I * H + E * H + k * H));
  expect(operationsPerByte).toBeCloseTo(operationsPerToken / bytesPerToken, 9);
});

test("the bytes of each role's weights follow from its own dtype", () => {
  const bf16 = describeLayer(config, "bf16");
  const formats = { ...bf16.formats, router: "f32", gate: "f32" };
  const description = describeLayer(config, { formats, biasDType: "f32" });
  const rows = { tokens: 3, rows: 6, touchedExperts: 2 };
  const { router, gateUp, down } = layerWork(description, rows, "bf16").stages;
  expect(router.weightBytes).toBe(4 * E * H);
  expect(gateUp.weightBytes).toBe(2 * (4 + 2) * I * H);
  expect(down.weightBytes).toBe(2 * 2 * I * H);
});
