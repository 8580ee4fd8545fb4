import { checkChoice, checkInteger, checkOptions, invalidArgument } from "../../core/errors.js";
import {
  type Gating,
  type GroupScore,
  groupScores,
  type Normalization,
  type Scoring,
  type SelectionKey,
  scorings,
  selectionKeys,
} from "../../core/routing_rule.js";

/** What the k chosen weights are divided by; where it is 0 they are 0. */
export type Normalize =
  /** Their sum. */
  | { by: "sum" }
  /** Their sum plus epsilon. */
  | { by: "sum_plus_epsilon"; epsilon: number }
  /** The larger of their sum and epsilon. */
  | { by: "clamped_sum"; epsilon: number }
  /** Their L^p norm, p being `power`. */
  | { by: "lp"; power: number };

/** A choice that is limited to the experts of the best groups; E / count neighbouring experts form a group. */
export interface Groups {
  /** How many groups there are; divides E. */
  count: number;
  /** How many of them are chosen. */
  top: number;
  /**
   * A group's score: the largest key of its experts (`max`, default), the sum of the two largest (`top2_sum`), or of the
   * topK / top largest (`topk_sum`).
   */
  score?: GroupScore;
}

/** How router logits become expert ids and weights. */
export interface GatingRuleOptions {
  /** k, experts per token: 1 .. E. */
  topK: number;
  /**
   * `softmax` (default), `sigmoid`, `sqrt_softplus` (√ln(1 + eˣ)) or `none` (the logit itself) over all experts before the
   * choice. `softmax_selected`: choose by logit, then softmax over the chosen. `sparsemixer` (Phi-3.5-MoE): one after
   * another, each weight a softmax over the experts close to the best one left.
   */
  scoring?: Scoring;
  /**
   * What experts are chosen by, before a selection bias is added; default the score, with `softmax_selected` and
   * `sparsemixer` always the logit. Llama-4 is sigmoid chosen by logit.
   */
  selectionKey?: SelectionKey;
  /** Choose from the best groups of experts only; default from all. */
  groups?: Groups;
  /** Divide the chosen weights, `true` by their sum; default false. */
  normalize?: boolean | Normalize;
  /** Factor on the weights after that; default 1. */
  scale?: number;
  /** Of `sparsemixer`: experts further than 2 * jitter below the best, relatively, are left out; default 0.01. */
  jitter?: number;
}

/** Checks gating options against the number of experts and fills in the defaults; errors name fields behind `prefix`. */
export function checkGating(options: GatingRuleOptions, experts: number, prefix = ""): Gating {
  const { topK, scoring = "softmax", scale = 1 } = options;
  checkInteger(`${prefix}topK`, topK, 1, experts);
  checkChoice(`${prefix}scoring`, scoring, scorings);
  if (typeof scale !== "number" || !Number.isFinite(scale)) {
    throw invalidArgument(`${prefix}scale`, "a finite number", scale);
  }
  return {
    topK,
    scoring,
    selectionKey: checkSelectionKey(options.selectionKey, scoring, prefix),
    ...checkGroups(options.groups, scoring, topK, experts, prefix),
    ...checkNormalize(options.normalize, scoring, prefix),
    scale,
    jitter: checkJitter(options.jitter, scoring, prefix),
  };
}

/** Refuses a selection bias where the scoring has no place for one. */
export function checkSelectionBias(bias: unknown, scoring: Scoring): void {
  if (bias === undefined || scoring !== "sparsemixer") return;
  throw invalidArgument("selectionBias", "none for sparsemixer, which chooses by the logits alone", bias);
}

function checkSelectionKey(given: SelectionKey | undefined, scoring: Scoring, prefix: string): SelectionKey {
  const name = `${prefix}selectionKey`;
  if (given !== undefined) checkChoice(name, given, selectionKeys);
  const byLogit = scoring === "softmax_selected" || scoring === "sparsemixer";
  if (byLogit && given === "score") {
    throw invalidArgument(name, `"logit" for ${scoring}, whose scores exist only after the choice`, given);
  }
  return given ?? (byLogit ? "logit" : "score");
}

type GroupFields = Pick<Gating, "numGroups" | "topGroups" | "groupScore">;

function checkGroups(
  groups: Groups | undefined,
  scoring: Scoring,
  topK: number,
  experts: number,
  prefix: string,
): GroupFields {
  if (groups === undefined) return { numGroups: 1, topGroups: 1, groupScore: "max" };
  checkOptions(groups, "{ count: 8, top: 4 }", `${prefix}groups`);
  const { count, top, score = "max" } = groups;
  checkInteger(`${prefix}groups.count`, count, 1, experts);
  checkInteger(`${prefix}groups.top`, top, 1, count);
  checkChoice(`${prefix}groups.score`, score, groupScores);
  if (experts % count !== 0) throw invalidArgument(`${prefix}groups.count`, `a divisor of ${experts} experts`, count);
  const size = experts / count;
  if (topK > top * size) {
    const room = `at most ${top * size}, the experts of ${top} groups of ${size}`;
    throw invalidArgument(`${prefix}topK`, room, topK);
  }
  if (score === "top2_sum" && size < 2)
    throw invalidArgument(`${prefix}groups.score`, '"max" for groups of one expert', score);
  if (score === "topk_sum" && topK % top !== 0) {
    throw invalidArgument(`${prefix}groups.top`, `a divisor of topK ${topK} for the score topk_sum`, top);
  }
  if (scoring === "sparsemixer") {
    throw invalidArgument(`${prefix}groups`, "none for sparsemixer, which chooses among all experts", "groups");
  }
  return { numGroups: count, topGroups: top, groupScore: score };
}

type NormalizeFields = Pick<Gating, "normalization" | "epsilon" | "power">;

function checkNormalize(normalize: boolean | Normalize | undefined, scoring: Scoring, prefix: string): NormalizeFields {
  if (normalize === undefined || normalize === false) return { normalization: "none", epsilon: 0, power: 1 };
  const given: Normalize = normalize === true ? { by: "sum" } : normalize;
  checkOptions(given, '{ by: "sum" }', `${prefix}normalize`);
  const kinds: readonly Normalization[] = ["sum", "sum_plus_epsilon", "clamped_sum", "lp"];
  checkChoice(`${prefix}normalize.by`, given.by, kinds);
  if (scoring === "none" && given.by !== "lp") {
    throw invalidArgument(`${prefix}normalize.by`, '"lp" for the scoring none, as logits can add up to zero', given.by);
  }
  const positive = (name: string, value: unknown): number => {
    if (typeof value === "number" && value > 0 && Number.isFinite(value)) return value;
    throw invalidArgument(`${prefix}normalize.${name}`, "a finite number > 0", value);
  };
  return {
    normalization: given.by,
    epsilon: given.by === "sum_plus_epsilon" || given.by === "clamped_sum" ? positive("epsilon", given.epsilon) : 0,
    power: given.by === "lp" ? positive("power", given.power) : 1,
  };
}

function checkJitter(jitter: number | undefined, scoring: Scoring, prefix: string): number {
  if (scoring !== "sparsemixer") {
    if (jitter === undefined) return 0;
    throw invalidArgument(`${prefix}jitter`, `none for the scoring ${scoring}; sparsemixer alone has it`, jitter);
  }
  const value = jitter ?? 0.01;
  if (typeof value === "number" && value >= 0 && Number.isFinite(value)) return value;
  throw invalidArgument(`${prefix}jitter`, "a finite number >= 0", jitter);
}
