import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Device } from "../../../lib/core/device/device.js";
import { expertScorings } from "../../../lib/core/layer/routing_rule.js";
import { openDevice } from "../../../lib/devices.js";
import { type ExpertChoiceRule, expertChoice } from "../../../lib/operators/routing/expert_choice.js";
import { relativeError } from "../../../lib/testing/difference.js";
import { Random } from "../../../lib/testing/inputs/random.js";
import { deviceNames, openForTests } from "../../support/devices.js";
import { expectError } from "../../support/errors.js";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

interface Choice {
  tokens: Int32Array;
  tokenWeights: Float32Array;
  ids: Int32Array;
  weights: Float32Array;
}

function choose(device: Device, logits: Float32Array, shape: number[], rule: ExpertChoiceRule): Choice {
  using tensor = device.tensor(logits, shape);
  const { tokens, tokenWeights, ids, weights } = expertChoice(tensor, rule);
  const result = {
    tokens: tokens.dataSync(),
    tokenWeights: tokenWeights.dataSync(),
    ids: ids.dataSync(),
    weights: weights.dataSync(),
  };
  for (const each of [tokens, tokenWeights, ids, weights]) each.dispose();
  return result;
}

/** Whether an expert's softmax scores of two rows of logits, ladders[expert][row] / 16, differ by less than 1e-5. */
function hasNearTies(ladders: readonly number[][], rows: number): boolean {
  const exponentials = ladders.map((ladder) => ladder.map((step) => Math.exp(step / 16)));
  const totals = Array.from({ length: rows }, (_, row) =>
    exponentials.reduce((total, values) => total + (values[row] as number), 0),
  );
  return exponentials.some((values) => {
    const scores = values.map((value, row) => value / (totals[row] as number)).sort((a, b) => a - b);
    return scores.some((score, rank) => rank > 0 && score - (scores[rank - 1] as number) < 1e-5 * score);
  });
}

describe.each(deviceNames)("expertChoice on %s", (name) => {
  const device = openForTests(name);

  test("each expert takes its best tokens, best first", () => {
    const logits = Float32Array.of(1, 0, 3, 0, 2, 0, 0, 9);
    const { tokens, tokenWeights, ids, weights } = choose(device(), logits, [4, 2], { factor: 1 });
    expect([...tokens]).toEqual([1, 2, 3, 0]);
    const sigmoid = (x: number) => 1 / (1 + Math.exp(-x)); // a softmax over two
    const expected = [sigmoid(3), sigmoid(2), sigmoid(9), sigmoid(-1)];
    expect(relativeError(tokenWeights, expected)).toBeLessThanOrEqual(1e-6);
    expect([...ids]).toEqual([-1, 1, 0, -1, 0, -1, -1, 1]);
    expect([...weights]).toEqual([0, tokenWeights[3], tokenWeights[0], 0, tokenWeights[1], 0, 0, tokenWeights[2]]);
  });

  test.each(expertScorings)("%s: ties go to the lower token, NaN comes last with weight 0", (scoring) => {
    const logits = Float32Array.of(nan, 0, 1, 1, 1, 1, nan, 0);
    const { tokens, tokenWeights, ids } = choose(device(), logits, [4, 2], { tokens: 3, scoring });
    expect([...tokens]).toEqual([1, 2, 0, ...(scoring === "softmax" ? [0, 3, 1] : [1, 2, 0])]);
    expect(tokenWeights[2]).toBe(0);
    expect([...ids.slice(0, 1)]).toEqual([0]);
  });

  test("a token without a finite logit comes last, has weight 0 and is counted", () => {
    const before = device().warnings.nonFiniteLogitRows;
    const logits = Float32Array.of(infinity, -infinity, -90, 0, 0, 0);
    const { tokens, weights } = choose(device(), logits, [3, 2], { tokens: 3 });
    expect([...tokens]).toEqual([2, 1, 0, 1, 2, 0]);
    expect([...weights.slice(0, 2)]).toEqual([0, 0]);
    expect(device().warnings.nonFiniteLogitRows).toBe(before + 1);
  });

  test("takes at most all tokens", () => {
    expect(choose(device(), new Float32Array(6), [3, 2], { factor: 5 }).tokens).toEqual(
      Int32Array.of(0, 1, 2, 0, 1, 2),
    );
  });

  test("any logits: the same as reference, with the same number of tokens for every expert", () => {
    using reference = openDevice("reference");
    const problem = fc.record({
      tokens: fc.integer({ min: 1, max: 90 }),
      experts: fc.integer({ min: 1, max: 40 }),
      share: fc.integer({ min: 0, max: 100 }),
      scoring: fc.constantFrom(...expertScorings),
      rows: fc.integer({ min: 1, max: 90 }),
      seed: fc.integer({ min: 0 }),
    });
    fc.assert(
      fc.property(problem, ({ tokens, experts, share, scoring, rows, seed }) => {
        // Tokens with equal rows tie. Other logits are at least 1/32 apart, and the softmax of a few rows that come closer
        // than float32 can tell is left out below.
        const random = new Random(seed);
        const ladders = Array.from({ length: experts }, () =>
          random.sample(rows, rows).map((step) => step + random.uniform() / 2),
        );
        fc.pre(scoring !== "softmax" || !hasNearTies(ladders, rows));
        const logits = new Float32Array(tokens * experts);
        for (let token = 0; token < tokens; token++) {
          const row = random.integer(0, rows - 1);
          for (let expert = 0; expert < experts; expert++) {
            logits[token * experts + expert] = ((ladders[expert] as number[])[row] as number) / 16;
          }
        }
        const capacity = Math.ceil((share / 100) * tokens);
        const rule = { tokens: capacity, scoring };
        const actual = choose(device(), logits, [tokens, experts], rule);
        const expected = choose(reference, logits, [tokens, experts], rule);
        expect(actual.tokens).toEqual(expected.tokens);
        expect(actual.ids).toEqual(expected.ids);
        expect(relativeError(actual.tokenWeights, expected.tokenWeights)).toBeLessThanOrEqual(3e-6);
        expect(relativeError(actual.weights, expected.weights)).toBeLessThanOrEqual(3e-6);
        for (let expert = 0; expert < experts; expert++) {
          expect(actual.ids.filter((id) => id === expert).length).toBe(capacity);
        }
      }),
      { numRuns: 40 },
    );
  });

  test("arguments that make no sense", () => {
    const logits = device().zeros([3, 2], "f32");
    const bad = (options: object, message: RegExp) =>
      expectError(() => expertChoice(logits, options as never), "INVALID_ARGUMENT", message);
    bad({}, /factor: expected a finite number >= 0, or tokens instead, got undefined/);
    bad({ factor: 2, scoring: "none" }, /scoring: expected one of "softmax", "sigmoid", got "none"/);
    bad({ factor: 2, tokens: 1 }, /factor cannot be combined with tokens/);
    expectError(() => expertChoice(logits, undefined as never), "INVALID_ARGUMENT", /options: expected/);
    const none = device().zeros([3, 0], "f32");
    expectError(() => expertChoice(none, { factor: 1 }), "INVALID_ARGUMENT", /logits: expected at least one expert/);
    const ids = device().zeros([3, 2], "i32");
    const integers = () => expertChoice(ids as never, { factor: 1 });
    expectError(integers, "UNSUPPORTED_DTYPE", /logits: expected dtype f32, f16 or bf16/);
    const tokens = device().zeros([2, 2], "i32");
    const out = { tokens, tokenWeights: device().zeros([2, 2], "f32"), ids, weights: logits };
    expectError(() => expertChoice(logits, { factor: 1, out }), "INVALID_ARGUMENT", /out\.weights: .*overlaps/);
    const other = { ...out, tokens: device().zeros([2, 1], "i32") };
    expectError(() => expertChoice(logits, { factor: 1, out: other }), "SHAPE_MISMATCH", /out\.tokens: expected shape/);
  });
});
