import { describe, expect, test } from "vitest";
import type { Gating } from "../../../lib/core/layer/routing_rule.js";
import {
  checkGating,
  checkSelectionBias,
  type GatingRuleOptions,
  gatingRule,
} from "../../../lib/operators/routing/gating_options.js";
import { expectError } from "../../support/errors.js";

const experts = 12;
const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

/** What a caller without types may pass. */
// biome-ignore lint/suspicious/noExplicitAny: wrong types are what is tested
type Anything = any;

describe("rules that make no sense are refused", () => {
  const refused: [string, Anything, RegExp][] = [
    ["no topK", {}, /topK/],
    ["topK 0", { topK: 0 }, /topK.*1.*12/],
    ["topK beyond E", { topK: 13 }, /topK.*1.*12/],
    ["a fraction", { topK: 1.5 }, /topK/],
    ["an unknown scoring", { topK: 2, scoring: "hardmax" }, /scoring.*softmax/],
    ["a scale that is not a number", { topK: 2, scale: "2" }, /scale.*finite/],
    ["an infinite scale", { topK: 2, scale: infinity }, /scale.*finite/],
    ["a scale beyond float32", { topK: 2, scale: 1e39 }, /scale.*finite.*float32/],
    ["an unknown key", { topK: 2, selectionKey: "rank" }, /selectionKey/],
    [
      "scores of softmax_selected",
      { topK: 2, scoring: "softmax_selected", selectionKey: "score" },
      /selectionKey.*logit/,
    ],
    ["scores of sparsemixer", { topK: 2, scoring: "sparsemixer", selectionKey: "score" }, /selectionKey.*logit/],
    ["groups that are not an object", { topK: 2, groups: 4 }, /groups/],
    ["no group count", { topK: 2, groups: { top: 1 } }, /groups.count/],
    ["no top groups", { topK: 2, groups: { count: 4 } }, /groups.top/],
    ["more top groups than groups", { topK: 2, groups: { count: 4, top: 5 } }, /groups.top.*1.*4/],
    ["groups that do not divide E", { topK: 2, groups: { count: 5, top: 1 } }, /groups.count.*divisor of 12/],
    ["an unknown group score", { topK: 2, groups: { count: 4, top: 2, score: "mean" } }, /groups.score/],
    ["more experts than the groups have", { topK: 7, groups: { count: 4, top: 2 } }, /topK.*at most 6/],
    ["two keys of groups of one", { topK: 2, groups: { count: 12, top: 2, score: "top2_sum" } }, /groups.score/],
    ["a part of a key", { topK: 3, groups: { count: 4, top: 2, score: "topk_sum" } }, /groups.top.*divisor of topK 3/],
    ["groups of sparsemixer", { topK: 2, scoring: "sparsemixer", groups: { count: 4, top: 2 } }, /groups.*sparsemixer/],
    ["a normalization that is not an object", { topK: 2, normalize: "sum" }, /normalize/],
    ["an unknown normalization", { topK: 2, normalize: { by: "max" } }, /normalize.by/],
    ["none as a normalization", { topK: 2, normalize: { by: "none" } }, /normalize.by/],
    ["sums of logits", { topK: 2, scoring: "none", normalize: true }, /normalize.by.*lp/],
    ["epsilon 0", { topK: 2, normalize: { by: "clamped_sum", epsilon: 0 } }, /normalize.epsilon/],
    ["epsilon NaN", { topK: 2, normalize: { by: "sum_plus_epsilon", epsilon: nan } }, /normalize.epsilon/],
    ["no epsilon", { topK: 2, normalize: { by: "sum_plus_epsilon" } }, /normalize.epsilon/],
    ["an epsilon that is not used", { topK: 2, normalize: { by: "sum", epsilon: 1 } }, /epsilon cannot be .*by "sum"/],
    ["a power that is not used", { topK: 2, normalize: { by: "sum", power: 2 } }, /power cannot be .*by "sum"/],
    ["power 0", { topK: 2, normalize: { by: "lp", power: 0 } }, /normalize.power/],
    ["no power", { topK: 2, normalize: { by: "lp" } }, /normalize.power/],
    ["jitter of a softmax", { topK: 2, jitter: 0.1 }, /jitter cannot be combined with scoring softmax/],
    ["a negative jitter", { topK: 2, scoring: "sparsemixer", jitter: -0.1 }, /jitter.*>= 0/],
    ["an infinite jitter", { topK: 2, scoring: "sparsemixer", jitter: infinity }, /jitter.*finite/],
  ];
  test.each(refused)("%s", (_, options, message) => {
    expectError(() => checkGating(gatingRule(options, "options"), experts), "INVALID_ARGUMENT", message);
  });

  test("a selection bias with sparsemixer", () => {
    expectError(() => checkSelectionBias("a bias", "sparsemixer"), "INVALID_ARGUMENT", /selectionBias.*sparsemixer/);
  });
});

test("defaults are filled in", () => {
  const plain: Gating = {
    topK: 2,
    scoring: "softmax",
    selectionKey: "score",
    numGroups: 1,
    topGroups: 1,
    groupScore: "max",
    normalization: "none",
    epsilon: 0,
    power: 1,
    scale: 1,
    jitter: 0,
  };
  const filled = (options: Omit<GatingRuleOptions, "topK">) =>
    checkGating(gatingRule({ topK: 2, ...options }, "options"), experts);
  expect(filled({})).toEqual(plain);
  expect(filled({ normalize: true })).toEqual({ ...plain, normalization: "sum" });
  expect(filled({ groups: { count: 4, top: 2 } })).toEqual({ ...plain, numGroups: 4, topGroups: 2 });
  expect(filled({ scoring: "sparsemixer" })).toEqual({
    ...plain,
    scoring: "sparsemixer",
    selectionKey: "logit",
    jitter: 0.01,
  });
  expect(filled({ scoring: "softmax_selected" }).selectionKey).toBe("logit");
});
