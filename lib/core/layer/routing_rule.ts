// How logits become a routing, as devices compute it: without defaults, every field is set.
import { choice, integer, number, type RuleValues, rule } from "../operators/field.js";

export const scorings = ["softmax", "softmax_selected", "sigmoid", "sqrt_softplus", "none", "sparsemixer"] as const;
/**
 * How router logits become scores. `softmax`, `sigmoid`, `sqrt_softplus` (√ln(1 + eˣ)) and `none` (the logit itself)
 * score all experts before the choice. `softmax_selected` chooses by logit and takes the softmax over the chosen.
 * `sparsemixer` chooses one expert after another, each with a softmax over the experts close to the best one left.
 *
 * @useDeclaredType
 */
export type Scoring = (typeof scorings)[number];

export const expertScorings = ["softmax", "sigmoid"] as const;
/**
 * How a token's logits become scores for all experts, in expert choice and in statistics.
 *
 * @useDeclaredType
 */
export type ExpertScoring = (typeof expertScorings)[number];

export const selectionKeys = ["score", "logit"] as const;
/**
 * The key by which experts are chosen, before the selection bias is added.
 *
 * @useDeclaredType
 */
export type SelectionKey = (typeof selectionKeys)[number];

export const groupScores = ["max", "top2_sum", "topk_sum"] as const;
/**
 * The key by which a group of experts is chosen: the largest key of its experts, the sum of the two largest, or the sum
 * of the topK / topGroups largest.
 *
 * @useDeclaredType
 */
export type GroupScore = (typeof groupScores)[number];

export const weightPlaces = ["output", "input"] as const;
/**
 * Whether the router's weight multiplies an expert's output or its input.
 *
 * @useDeclaredType
 */
export type WeightPlace = (typeof weightPlaces)[number];

const normalizations = ["none", "sum", "sum_plus_epsilon", "clamped_sum", "lp"] as const;
/**
 * The divisor of the k chosen weights: none, their sum, their sum plus epsilon, the larger of their sum and epsilon, or
 * their L^p norm. If the divisor is 0, so are the weights.
 *
 * @useDeclaredType
 */
export type Normalization = (typeof normalizations)[number];

/** How router logits become expert ids and weights; every field is set. */
export const gatingRule = rule({
  /** k, experts per token, 1 .. E. */
  topK: integer,
  /** How logits become scores. */
  scoring: choice(scorings),
  /** What the choice is made by. */
  selectionKey: choice(selectionKeys),
  /** Neighbouring experts form this many groups; 1: no groups. */
  numGroups: integer,
  /** How many groups are chosen; only their experts can be. */
  topGroups: integer,
  /** How a group's keys become its score. */
  groupScore: choice(groupScores),
  /** What the chosen weights are divided by. */
  normalization: choice(normalizations),
  /** Epsilon of `sum_plus_epsilon` and `clamped_sum`. */
  epsilon: number,
  /** p of `lp`. */
  power: number,
  /** Multiplies the weights after normalisation. */
  scale: number,
  /** For `sparsemixer`: experts more than 2 * jitter (relative) below the best are left out of the softmax. */
  jitter: number,
});
/** How router logits become expert ids and weights; every field is set. */
export interface Gating extends RuleValues<(typeof gatingRule)["fields"]> {}

export const drops = ["position", "prioritized", "probability"] as const;
/**
 * The order in which an expert accepts the choices that fell on it. `position`: all first choices in token order, then
 * all second choices, and so on. `prioritized`: the same with tokens in descending order of their largest weight.
 * `probability`: in descending order of weight.
 *
 * @useDeclaredType
 */
export type Drop = (typeof drops)[number];

export const keptDivisors = ["none", "kept", "chosen"] as const;
/**
 * The divisor of a token's kept weights: none, their sum, or the sum of the weights of all its choices.
 *
 * @useDeclaredType
 */
export type KeptDivisor = (typeof keptDivisors)[number];
