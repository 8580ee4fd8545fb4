import { describe, expect, test } from "vitest";
import type { LayerDetails } from "../../lib/checkpoint/inspect/read_layers.js";
import { layerInWords, routingInWords } from "../../lib/cli/layer_in_words.js";
import { describeLayer, type MoeLayerConfig } from "../../lib/layer/description/config.js";

const base: MoeLayerConfig = { hiddenSize: 64, intermediateSize: 32, numExperts: 16, topK: 4 };

const routing = (config: Partial<MoeLayerConfig>, details: LayerDetails = {}): string =>
  routingInWords(describeLayer({ ...base, ...config }, "f32"), details).join("; ");
const layer = (config: Partial<MoeLayerConfig>, details?: LayerDetails): string[] =>
  layerInWords(describeLayer({ ...base, ...config }, "f32"), details).split("\n");

test("experts on a projection in words", () => {
  const [, line] = layer({ latent: { size: 24, norm: { epsilon: 1e-5 } } });
  expect(line).toBe(
    "the experts read a projection of the tokens to L 24; their sum is projected back, after an RMSNorm (epsilon 0.00001)",
  );
});

describe("routing in words", () => {
  test.each<[Partial<MoeLayerConfig>, string]>([
    [{}, "softmax over all 16 logits, the 4 experts with the largest score chosen; weights: their scores"],
    [
      { scoring: "sigmoid", topK: 1 },
      "sigmoid of 16 logits, the expert with the largest score chosen; weights: their scores",
    ],
    [
      { scoring: "sigmoid", selectionKey: "logit", weightOn: "input" },
      "sigmoid of 16 logits, the 4 experts with the largest logit chosen; " +
        "weights: their scores, multiplying the experts' input",
    ],
    [
      { scoring: "sqrt_softplus", normalize: { by: "sum_plus_epsilon", epsilon: 1e-20 }, scale: 1.5 },
      "square root of softplus of 16 logits, the 4 experts with the largest score chosen; " +
        "weights: their scores, divided by their sum plus 1e-20, times 1.5",
    ],
    [
      { scoring: "softmax_selected" },
      "16 logits, the 4 experts with the largest logit chosen; weights: softmax over the chosen logits",
    ],
    [
      { scoring: "none", normalize: { by: "lp", power: 2 } },
      "16 logits, the 4 experts with the largest logit chosen; weights: their logits, divided by their L2 norm",
    ],
    [
      { scoring: "sparsemixer", topK: 2, jitter: 0.05 },
      "sparsemixer over 16 logits, 2 chosen one after another, each time the largest left; " +
        "weights: each a softmax over the logits left that are within a relative 0.1 of it",
    ],
    [
      { normalize: true },
      "softmax over all 16 logits, the 4 experts with the largest score chosen; weights: their scores, divided by their sum",
    ],
    [
      { normalize: { by: "clamped_sum", epsilon: 1e-12 } },
      "softmax over all 16 logits, the 4 experts with the largest score chosen; " +
        "weights: their scores, divided by their sum or 1e-12 if that is larger",
    ],
    [
      { groups: { count: 8, top: 2 } },
      "softmax over all 16 logits, the 2 of 8 groups with the largest score; " +
        "in them the 4 experts with the largest score chosen; weights: their scores",
    ],
    [
      { groups: { count: 4, top: 2, score: "top2_sum" }, topK: 6 },
      "softmax over all 16 logits, the 2 of 4 groups with the largest sum of 2 scores; " +
        "in them the 6 experts with the largest score chosen; weights: their scores",
    ],
    [
      { groups: { count: 4, top: 2, score: "topk_sum" }, topK: 6 },
      "softmax over all 16 logits, the 2 of 4 groups with the largest sum of 3 scores; " +
        "in them the 6 experts with the largest score chosen; weights: their scores",
    ],
  ])("%j", (config, words) => expect(routing(config)).toBe(words));

  test.each<[NonNullable<MoeLayerConfig["capacity"]>, string]>([
    [
      { tokens: 64, per: "sequence" },
      "each expert takes at most 64 of a sequence's choices, in order of choice and token",
    ],
    [
      { factor: 1.25, drop: "prioritized" },
      "each expert takes at most 1.25 times an even share of all choices, " +
        "in order of choice and the token's largest weight",
    ],
    [
      { factor: 1, round: "down", minimum: 4, multipleOf: 8, drop: "probability", renormalize: true },
      "each expert takes at most 1 times an even share of all choices (rounded down, at least 4, in multiples of 8), " +
        "in order of weight, kept weights divided by their sum",
    ],
    [
      { tokens: 3, renormalize: { by: "chosen", scale: 0.8 } },
      "each expert takes at most 3 of all choices, in order of choice and token, " +
        "kept weights divided by the sum of all that the token chose, times 0.8",
    ],
  ])("capacity %j", (capacity, words) => expect(routing({ capacity })).toBe(`${routing({})}; ${words}`));

  test("experts that choose", () => {
    const choice = (config: Partial<MoeLayerConfig>) => routing({ topK: 16, ...config });
    expect(choice({ expertChoice: { factor: 2 } })).toBe(
      "softmax over all 16 logits, each expert chooses 2 times an even share of the tokens, " +
        "those with the largest score; weights: their scores",
    );
    expect(choice({ expertChoice: { tokens: 5 }, scoring: "sigmoid" })).toContain(
      "sigmoid of 16 logits, each expert chooses 5 of the tokens, ",
    );
    expect(layer({ topK: 16, expertChoice: { tokens: 5 } })[0]).toBe(
      "H 64, I 32, 16 experts of gate, up and down (swiglu)",
    );
  });

  test("a hierarchy", () => {
    const hierarchy = { numGroups: 4, topK: 2, normalize: true } as const;
    expect(routing({ hierarchy, scoring: "softmax_selected" })).toBe(
      "softmax over all 4 group logits, the 2 groups with the largest score chosen; " +
        "weights of groups: their scores, divided by their sum; " +
        "in each of them 4 logits, the 2 experts with the largest logit chosen; " +
        "weights: softmax over the chosen logits, times the group's",
    );
    expect(routing({ hierarchy: { numGroups: 4, topK: 1 }, weightOn: "input", topK: 1 })).toBe(
      "softmax over all 4 group logits, the group with the largest score chosen; weights of groups: their scores; " +
        "in each of them softmax over all 4 logits, the expert with the largest score chosen; " +
        "weights: their scores, times the group's, multiplying the experts' input",
    );
  });

  test("a table of token ids", () => {
    expect(routing({ scoring: "sqrt_softplus", normalize: true, hashRouting: { vocabularySize: 100 } })).toBe(
      "square root of softplus of 16 logits, the 4 experts that a table has for the token's id, one of 100; " +
        "weights: their scores, divided by their sum",
    );
    expect(routing({ topK: 1, hashRouting: { vocabularySize: 7 } })).toBe(
      "softmax over all 16 logits, the expert that a table has for the token's id, one of 7; weights: their scores",
    );
  });

  test("what the router reads, and scales of experts", () => {
    const rest = `${routing({})}, times the expert's scale`;
    expect(routing({ separateRouterInput: true, perExpertScale: true })).toBe(
      `the router reads tokens of its own; ${rest}`,
    );
    expect(routing({ routerNorm: {} })).toBe(
      `the router reads the RMSNorm of the tokens (epsilon 0.000001); ${routing({})}`,
    );
    expect(routing({ separateRouterInput: true, routerNorm: { epsilon: 0.01, scale: 1 / 3 } })).toBe(
      `the router reads the RMSNorm of tokens of its own (epsilon 0.01, times 0.333333); ${routing({})}`,
    );
  });

  test("experts that return their input", () => {
    expect(layer({ identityExperts: 4 })[0]).toBe(
      "H 64, I 32, 12 experts of gate, up and down (swiglu) and 4 that return their input, 4 per token",
    );
    expect(routing({ identityExperts: 4 })).toBe(routing({}));
  });

  test("noise in training", () => {
    const hierarchy = { numGroups: 4, topK: 2 } as const;
    const noise = "with normal noise, its deviation the softplus of one more projection plus";
    expect(routing({ noisy: {} })).toBe(`${routing({})}; in training the logits ${noise} 0.01`);
    expect(routing({ noisy: { epsilon: 1 }, hierarchy })).toContain(
      `; in training the logits of both gates ${noise} 1`,
    );
    expect(routing({ routerJitter: 0.1 })).toBe(
      `${routing({})}; in training the router's input times 1 - 0.1 to 1 + 0.1`,
    );
  });

  test("biases if they are known", () => {
    const groups = { count: 4, top: 2, score: "top2_sum" } as const;
    expect(routing({ scoring: "sigmoid", groups }, { selectionBias: true })).toBe(
      "sigmoid of 16 logits, the 2 of 4 groups with the largest sum of 2 biased scores; " +
        "in them the 4 experts with the largest biased score chosen; weights: their scores",
    );
    expect(routing({ scoring: "softmax_selected" }, { routerBias: true })).toContain("16 logits with bias, ");
    expect(routing({}, { selectionBias: false, routerBias: false })).toBe(routing({}));
  });
});

describe("a layer in words", () => {
  test("sizes, then routing", () => {
    expect(layer({})).toEqual([
      "H 64, I 32, 16 experts of gate, up and down (swiglu), 4 per token",
      "routing: softmax over all 16 logits, the 4 experts with the largest score chosen;",
      "         weights: their scores",
      "",
    ]);
  });

  test.each<[Partial<MoeLayerConfig>, LayerDetails, string]>([
    [{ activation: "relu2" }, {}, "H 64, I 32, 16 experts of up and down (relu2), 4 per token"],
    [{ multiplier: true }, {}, "H 64, I 32, 16 experts of gate, up, multiplier and down (swiglu), 4 per token"],
    [
      { activation: "swiglu_clamped", clamp: { limit: 5 } },
      { expertBiases: true },
      "H 64, I 32, 16 experts of gate, up and down with biases " +
        "(swiglu_clamped: alpha 1.702, limit 5, offset 1), 4 per token",
    ],
    [
      { activation: "situ", clamp: { limit: 4 } },
      {},
      "H 64, I 32, 16 experts of gate, up and down (situ: alpha 1, limits 4 and none, offset 0), 4 per token",
    ],
    [
      { activation: "relu", outputActivation: "softmax" },
      {},
      "H 64, I 32, 16 experts of up and down (relu), softmax of their output, 4 per token",
    ],
    [{ numExperts: 1, topK: 1 }, {}, "H 64, I 32, 1 expert of gate, up and down (swiglu), 1 per token"],
  ])("%j", (config, details, words) => expect(layer(config, details)[0]).toBe(words));

  test.each<[MoeLayerConfig["sharedExpert"], LayerDetails, string]>([
    [{ intermediateSize: 32 }, {}, "shared expert: I 32, for every token"],
    [{ intermediateSize: 40 }, {}, "shared expert: I 64, for every token"],
    [{ intermediateSize: 40 }, { sharedWidth: 40 }, "shared expert: I 40, for every token"],
    [{ intermediateSize: 32, gate: "sigmoid" }, {}, "shared expert: I 32, for every token, weighted by a sigmoid gate"],
    [
      { intermediateSize: 32, gate: "softmax" },
      {},
      "shared expert: I 32, for every token, weighed against the chosen experts by a softmax gate",
    ],
    [
      { intermediateSize: 32, clamp: { limit: Number.POSITIVE_INFINITY } },
      {},
      "shared expert: I 32 (alpha 1, limit none, offset 0), for every token",
    ],
  ])("the shared expert %j %j", (sharedExpert, details, words) =>
    expect(
      layer({ sharedExpert, ...(sharedExpert?.clamp && { activation: "swiglu_clamped_after" }) }, details)[1],
    ).toBe(words),
  );
});
