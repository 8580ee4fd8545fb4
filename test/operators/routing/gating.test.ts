import { describe, expect, test } from "vitest";
import { scorings } from "../../../lib/core/layer/routing_rule.js";
import { gating } from "../../../lib/operators/routing/gating.js";
import { kernelPaths, openForTests } from "../../support/devices.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
const softmaxes = ["softmax", "softmax_selected"] as const;

describe.each(kernelPaths)("gating on $label", (path) => {
  const device = openForTests(path);

  function route(logits: number[][], options: Parameters<typeof gating>[1]) {
    using tensor = device().tensor(logits);
    const { ids, weights } = gating(tensor, options);
    const result = { ids: ids.toArraySync(), weights: weights.toArraySync() as number[][] };
    ids.dispose();
    weights.dispose();
    return result;
  }

  test("softmax over all experts, the best two", () => {
    const { ids, weights } = route([[0, Math.log(2), Math.log(5)]], { topK: 2 });
    expect(ids).toEqual([[2, 1]]);
    expect(weights[0]?.[0]).toBeCloseTo(5 / 8, 6);
    expect(weights[0]?.[1]).toBeCloseTo(2 / 8, 6);
  });

  test("softmax over the chosen, and normalization, divide by the sum of the chosen", () => {
    for (const options of [{ scoring: "softmax_selected" }, { normalize: true }] as const) {
      const { weights } = route([[0, Math.log(2), Math.log(5)]], { topK: 2, ...options });
      expect(weights[0]?.[0]).toBeCloseTo(5 / 7, 6);
      expect(weights[0]?.[1]).toBeCloseTo(2 / 7, 6);
    }
  });

  test("the scale comes after normalization", () => {
    const { weights } = route([[0, 0, 0]], { topK: 2, normalize: true, scale: 2.5 });
    expect(weights).toEqual([[1.25, 1.25]]);
  });

  test("ties go to the lower expert id", () => {
    expect(route([[1, 3, 3, 1, 3]], { topK: 5 }).ids).toEqual([[1, 2, 4, 0, 3]]);
    expect(route([[-0, 0, -0]], { topK: 3 }).ids).toEqual([[0, 1, 2]]);
  });

  test("DeepSeek-V3: bias and groups decide the choice, sigmoids are the weights", () => {
    using selectionBias = device().tensor([0, 0, 0, 0, 0, 1]);
    const logits = [[2, -1, 1, 1, 3, -2]];
    const groups = { count: 3, top: 1, score: "top2_sum" } as const;
    const options = { topK: 2, scoring: "sigmoid", selectionBias, groups, normalize: true, scale: 2.5 } as const;
    const { ids, weights } = route(logits, options);
    expect(ids).toEqual([[5, 4]]);
    const [best, other] = [1 / (1 + Math.exp(2)), 1 / (1 + Math.exp(-3))];
    expect(weights[0]?.[0]).toBeCloseTo((2.5 * best) / (best + other), 6);
    expect(weights[0]?.[1]).toBeCloseTo((2.5 * other) / (best + other), 6);
  });

  test("Llama-4: experts whose sigmoids are indistinguishable are chosen by logit", () => {
    const { ids, weights } = route([[40, 50, 60]], { topK: 1, scoring: "sigmoid", selectionKey: "logit" });
    expect(ids).toEqual([[2]]);
    expect(weights).toEqual([[1]]);
  });

  test("sparsemixer: each softmax goes over the experts left that are close", () => {
    const { ids, weights } = route([[10, 9.9, 5, 4.95]], { topK: 3, scoring: "sparsemixer", jitter: 0.1 });
    expect(ids).toEqual([[0, 1, 2]]);
    expect(weights[0]?.[0]).toBeCloseTo(1 / (1 + Math.exp(-0.1)), 5);
    expect(weights[0]?.[1]).toBe(1);
    expect(weights[0]?.[2]).toBeCloseTo(1 / (1 + Math.exp(-0.05)), 5);
  });

  test("if the divisor is 0 the weights are 0", () => {
    using selectionBias = device().tensor([0, 9, 9]);
    const { ids, weights } = route([[1, -infinity, nan]], { topK: 1, normalize: true, selectionBias });
    expect(ids).toEqual([[1]]);
    expect(weights).toEqual([[0]]);
  });

  test("the norm of the largest numbers does not overflow", () => {
    const options = { topK: 2, scoring: "none", normalize: { by: "lp", power: 2 } } as const;
    const { weights } = route([[3e38, 3e38]], options);
    expect(weights[0]?.[0]).toBeCloseTo(Math.SQRT1_2, 6);
  });

  test.each([...softmaxes, "sparsemixer"] as const)("NaN ranks below -Infinity and is ignored by %s", (scoring) => {
    const { ids, weights } = route([[nan, -infinity, 0, nan]], { topK: 4, scoring });
    expect(ids).toEqual([[2, 1, 0, 3]]);
    expect(weights).toEqual([[1, 0, 0, 0]]);
  });

  test.each(scorings)("a NaN logit has weight 0 under %s", (scoring) => {
    const { ids, weights } = route([[nan, 1]], { topK: 2, scoring });
    expect(ids).toEqual([[1, 0]]);
    expect(weights[0]?.[1]).toBe(0);
  });

  test.each(softmaxes)("+Infinity takes all the weight in equal shares under %s", (scoring) => {
    const { ids, weights } = route([[5, infinity, nan, infinity]], { topK: 3, scoring });
    expect(ids).toEqual([[1, 3, 0]]);
    expect(weights).toEqual([[0.5, 0.5, 0]]);
  });

  test.each(scorings)("a row without any finite logit gets distinct ids, weights 0, and is counted (%s)", (scoring) => {
    const before = device().warnings.nonFiniteLogitRows;
    const rows = [
      [nan, nan, nan],
      [-infinity, -infinity, -infinity],
      [nan, infinity, -infinity],
      [1, nan, nan],
    ];
    const { ids, weights } = route(rows, { topK: 2, scoring });
    expect(ids).toEqual([
      [0, 1],
      [0, 1],
      [1, 2],
      [0, 1],
    ]);
    expect(weights.slice(0, 3)).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
    ]);
    expect(weights[3]?.[0]).toBeGreaterThan(0);
    expect(device().warnings.nonFiniteLogitRows - before).toBe(3);
  });
});
