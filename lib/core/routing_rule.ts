// How logits become a routing, as devices compute it: every field is given.
import { choice, integer, number, type RuleValues, rule } from "./operators/field.js";

export const scorings = ["softmax", "softmax_selected", "sigmoid", "sqrt_softplus", "none", "sparsemixer"] as const;
/**
 * What becomes of router logits. `softmax`, `sigmoid`, `sqrt_softplus` (√ln(1 + eˣ)) and `none` (the logit itself) score all
 * experts before the choice. `softmax_selected` chooses by logit and takes the softmax over the chosen. `sparsemixer`
 * chooses one after another, each time with a softmax over the experts that are close to the best that is left.
 */
export type Scoring = (typeof scorings)[number];

export const expertScorings = ["softmax", "sigmoid"] as const;
/** The scores of all experts of a token, by which experts choose tokens and statistics are taken. */
export type ExpertScoring = (typeof expertScorings)[number];

export const selectionKeys = ["score", "logit"] as const;
/** What experts are chosen by, before the selection bias is added. */
export type SelectionKey = (typeof selectionKeys)[number];

export const groupScores = ["max", "top2_sum", "topk_sum"] as const;
/**
 * What a group of experts is chosen by: the largest key of its experts, the sum of the two largest, or the sum of the
 * topK / topGroups largest.
 */
export type GroupScore = (typeof groupScores)[number];

export const normalizations = ["none", "sum", "sum_plus_epsilon", "clamped_sum", "lp"] as const;
/**
 * What the k chosen weights are divided by: their sum, their sum plus epsilon, the larger of their sum and epsilon, or
 * their L^p norm. Where the divisor is 0 the weights are 0.
 */
export type Normalization = (typeof normalizations)[number];

/** How router logits become expert ids and weights; every field is given. */
export const gatingRule = rule({
  /** k, experts per token, 1 .. E. */
  topK: integer,
  scoring: choice(scorings),
  selectionKey: choice(selectionKeys),
  /** Neighbouring experts form this many groups; 1: no groups. */
  numGroups: integer,
  /** Groups whose experts may be chosen. */
  topGroups: integer,
  groupScore: choice(groupScores),
  normalization: choice(normalizations),
  /** Of `sum_plus_epsilon` and `clamped_sum`. */
  epsilon: number,
  /** p of `lp`. */
  power: number,
  /** Factor on the weights after that. */
  scale: number,
  /** Of `sparsemixer`: experts further than 2 * jitter below the best, relatively, have no part in the softmax. */
  jitter: number,
});
/** How router logits become expert ids and weights; every field is given. */
export interface Gating extends RuleValues<(typeof gatingRule)["fields"]> {}

export const drops = ["position", "prioritized", "probability"] as const;
/**
 * In which order an expert takes the choices that fell on it: all first choices in order of the token, then all second
 * choices, and so on; or the same with the tokens in descending order of their largest weight; or the choices of the
 * largest weights first.
 */
export type Drop = (typeof drops)[number];

export const keptDivisors = ["none", "kept", "chosen"] as const;
/** What a token's kept weights are divided by: nothing, their sum, or the sum of the weights of all that it chose. */
export type KeptDivisor = (typeof keptDivisors)[number];
