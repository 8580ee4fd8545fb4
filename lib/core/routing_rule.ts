// How logits become a routing, as devices compute it: every field is given.

/**
 * What becomes of router logits. `softmax`, `sigmoid`, `sqrt_softplus` (√ln(1 + eˣ)) and `none` (the logit itself) score all
 * experts before the choice. `softmax_selected` chooses by logit and takes the softmax over the chosen. `sparsemixer`
 * chooses one after another, each time with a softmax over the experts that are close to the best that is left.
 */
export type Scoring = "softmax" | "softmax_selected" | "sigmoid" | "sqrt_softplus" | "none" | "sparsemixer";
export const scorings: readonly Scoring[] = [
  "softmax",
  "softmax_selected",
  "sigmoid",
  "sqrt_softplus",
  "none",
  "sparsemixer",
];

/** What experts choose their tokens by: each token's scores over the experts. */
export type ExpertScoring = Extract<Scoring, "softmax" | "sigmoid">;
export const expertScorings: readonly ExpertScoring[] = ["softmax", "sigmoid"];

/** What experts are chosen by, before the selection bias is added. */
export type SelectionKey = "score" | "logit";
export const selectionKeys: readonly SelectionKey[] = ["score", "logit"];

/**
 * What a group of experts is chosen by: the largest key of its experts, the sum of the two largest, or the sum of the
 * topK / topGroups largest.
 */
export type GroupScore = "max" | "top2_sum" | "topk_sum";
export const groupScores: readonly GroupScore[] = ["max", "top2_sum", "topk_sum"];

/**
 * What the k chosen weights are divided by: their sum, their sum plus epsilon, the larger of their sum and epsilon, or
 * their L^p norm. Where the divisor is 0 the weights are 0.
 */
export type Normalization = "none" | "sum" | "sum_plus_epsilon" | "clamped_sum" | "lp";
export const normalizations: readonly Normalization[] = ["none", "sum", "sum_plus_epsilon", "clamped_sum", "lp"];

/** How router logits become expert ids and weights; every field is given. */
export interface Gating {
  /** k, experts per token, 1 .. E. */
  readonly topK: number;
  readonly scoring: Scoring;
  readonly selectionKey: SelectionKey;
  /** Neighbouring experts form this many groups; 1: no groups. */
  readonly numGroups: number;
  /** Groups whose experts may be chosen. */
  readonly topGroups: number;
  readonly groupScore: GroupScore;
  readonly normalization: Normalization;
  /** Of `sum_plus_epsilon` and `clamped_sum`. */
  readonly epsilon: number;
  /** p of `lp`. */
  readonly power: number;
  /** Factor on the weights after that. */
  readonly scale: number;
  /** Of `sparsemixer`: experts further than 2 * jitter below the best, relatively, have no part in the softmax. */
  readonly jitter: number;
}

/**
 * In which order an expert takes the choices that fell on it: all first choices in order of the token, then all second
 * choices, and so on; or the same with the tokens in descending order of their largest weight; or the choices of the
 * largest weights first.
 */
export type Drop = "position" | "prioritized" | "probability";
export const drops: readonly Drop[] = ["position", "prioritized", "probability"];

/** What a token's kept weights are divided by: nothing, their sum, or the sum of the weights of all that it chose. */
export type KeptDivisor = "none" | "kept" | "chosen";
export const keptDivisors: readonly KeptDivisor[] = ["none", "kept", "chosen"];

/** Which choices of a routing are kept, and their weights; every field is given. */
export interface CapacityLimit {
  /** Choices that an expert takes from a sequence. */
  readonly capacity: number;
  /** Tokens that share the capacity; divides T. */
  readonly sequenceLength: number;
  readonly drop: Drop;
  readonly divisor: KeptDivisor;
  /** Then they are multiplied by this; 1 where the divisor is none. */
  readonly scale: number;
}
