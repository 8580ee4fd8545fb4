import { cannotCombine, checkInteger, invalidArgument } from "../../core/errors.js";
import {
  booleanOr,
  choice,
  type Fields,
  finite,
  nonNegative,
  object,
  optional,
  positive,
  type Read,
  unchecked,
} from "../../core/input/options.js";
import {
  type Gating,
  type GroupScore,
  groupScores,
  type Scoring,
  type SelectionKey,
  scorings,
  selectionKeys,
} from "../../core/layer/routing_rule.js";

/** What the k chosen weights are divided by. If the divisor is 0, so are the weights. */
export type Normalize =
  | {
      /** Their sum. */
      by: "sum";
    }
  | {
      /** Their sum plus epsilon, or the larger of their sum and epsilon. */
      by: "sum_plus_epsilon" | "clamped_sum";
      /** Added to the sum, or its lower limit. */
      epsilon: number;
    }
  | {
      /** Their L^p norm. */
      by: "lp";
      /** p. */
      power: number;
    };

/** Limits the choice to the experts of the best groups. A group is E / count neighbouring experts. */
export interface Groups {
  /** Number of groups; divides E. */
  count: number;
  /** Number of groups to choose. */
  top: number;
  /**
   * A group's score: the largest key of its experts (`max`, default), the sum of the two largest (`top2_sum`), or of
   * the topK / top largest (`topk_sum`).
   */
  score?: GroupScore | undefined;
}

/** How router logits become expert ids and weights. */
export interface GatingRuleOptions {
  /** k, experts per token: 1 .. E. */
  topK: number;
  /**
   * `softmax` (default), `sigmoid`, `sqrt_softplus` (√ln(1 + eˣ)) or `none` (the logit itself) score all experts before
   * the choice. `softmax_selected` chooses by logit, then takes the softmax over the chosen. `sparsemixer`
   * (Phi-3.5-MoE) chooses one expert after another, each weighted by a softmax over the experts close to the best one
   * left.
   */
  scoring?: Scoring | undefined;
  /**
   * The key by which experts are chosen, before a selection bias is added; default the score. With `softmax_selected`
   * and `sparsemixer` it is always the logit. Llama-4 uses sigmoid scores and chooses by logit.
   */
  selectionKey?: SelectionKey | undefined;
  /** Choose only from the best groups of experts; default from all experts. */
  groups?: Groups | undefined;
  /** How to divide the chosen weights; `true` divides by their sum. Default false. */
  normalize?: boolean | Normalize | undefined;
  /** Multiplies the weights after normalisation; default 1. */
  scale?: number | undefined;
  /** For `sparsemixer`: experts more than 2 * jitter (relative) below the best are left out; default 0.01. */
  jitter?: number | undefined;
}

const groupsFields = {
  count: unchecked,
  top: unchecked,
  score: optional(choice(groupScores), "max"),
} satisfies Fields<Groups>;

const normalizeFields = {
  by: choice(["sum", "sum_plus_epsilon", "clamped_sum", "lp"]),
  epsilon: optional(positive),
  power: optional(positive),
};

export const gatingFields = {
  topK: unchecked,
  scoring: optional(choice(scorings), "softmax"),
  selectionKey: optional(choice(selectionKeys)),
  groups: optional(object(groupsFields, "{ count: 8, top: 4 }")),
  normalize: optional(booleanOr(object(normalizeFields, '{ by: "sum" }')), false),
  scale: optional(finite, 1),
  jitter: optional(nonNegative),
} satisfies Fields<GatingRuleOptions>;

/** Reads a gate's rule; {@link checkGating} checks what depends on the number of experts. */
export const gatingRule = object(gatingFields, "{ topK: 2 }");
export type GatingRule = Read<typeof gatingRule>;

/** Checks a gate's rule against the number of experts and fills in the defaults; errors name fields with `prefix`. */
export function checkGating(rule: GatingRule, experts: number, prefix = ""): Gating {
  const { topK, scoring, scale } = rule;
  checkInteger(`${prefix}topK`, topK, 1, experts);
  const selectionKey = checkSelectionKey(rule.selectionKey, scoring, prefix);
  const { numGroups, topGroups, groupScore } = checkGroups(rule.groups, scoring, topK, experts, prefix);
  const { normalization, epsilon, power } = checkNormalize(rule.normalize, scoring, prefix);
  const jitter = checkJitter(rule.jitter, scoring, prefix);
  return {
    topK,
    scoring,
    selectionKey,
    numGroups,
    topGroups,
    groupScore,
    normalization,
    epsilon,
    power,
    scale,
    jitter,
  };
}

/** Refuses a selection bias if the scoring cannot use one. */
export function checkSelectionBias(bias: unknown, scoring: Scoring): void {
  if (bias !== undefined && scoring === "sparsemixer") throw cannotCombine("selectionBias", "scoring sparsemixer");
}

function checkSelectionKey(given: SelectionKey | undefined, scoring: Scoring, prefix: string): SelectionKey {
  const name = `${prefix}selectionKey`;
  const byLogit = scoring === "softmax_selected" || scoring === "sparsemixer";
  if (byLogit && given === "score") {
    throw invalidArgument(name, `"logit" for ${scoring}, whose scores exist only after the choice`, given);
  }
  return given ?? (byLogit ? "logit" : "score");
}

type GroupFields = Pick<Gating, "numGroups" | "topGroups" | "groupScore">;

function checkGroups(
  groups: GatingRule["groups"],
  scoring: Scoring,
  topK: number,
  experts: number,
  prefix: string,
): GroupFields {
  if (groups === undefined) return { numGroups: 1, topGroups: 1, groupScore: "max" };
  const { count, top, score } = groups;
  checkInteger(`${prefix}groups.count`, count, 1, experts);
  checkInteger(`${prefix}groups.top`, top, 1, count);
  if (experts % count !== 0) throw invalidArgument(`${prefix}groups.count`, `a divisor of ${experts} experts`, count);
  const size = experts / count;
  if (topK > top * size) {
    const room = `at most ${top * size}, the experts in ${top} groups of ${size}`;
    throw invalidArgument(`${prefix}topK`, room, topK);
  }
  if (score === "top2_sum" && size < 2)
    throw invalidArgument(`${prefix}groups.score`, '"max" for groups of one expert', score);
  if (score === "topk_sum" && topK % top !== 0) {
    throw invalidArgument(`${prefix}groups.top`, `a divisor of topK ${topK} for the score topk_sum`, top);
  }
  if (scoring === "sparsemixer") throw cannotCombine(`${prefix}groups`, "scoring sparsemixer");
  return { numGroups: count, topGroups: top, groupScore: score };
}

type NormalizeFields = Pick<Gating, "normalization" | "epsilon" | "power">;

function checkNormalize(normalize: GatingRule["normalize"], scoring: Scoring, prefix: string): NormalizeFields {
  if (normalize === false) return { normalization: "none", epsilon: 0, power: 1 };
  const { by, epsilon, power } = normalize === true ? { by: "sum" as const } : normalize;
  const name = `${prefix}normalize`;
  if (scoring === "none" && by !== "lp") {
    throw invalidArgument(`${name}.by`, '"lp" for scoring none, because logits can sum to zero', by);
  }
  const usesEpsilon = by === "sum_plus_epsilon" || by === "clamped_sum";
  return {
    normalization: by,
    epsilon: usesEpsilon ? positive(epsilon, `${name}.epsilon`) : (absent(epsilon, `${name}.epsilon`, by) ?? 0),
    power: by === "lp" ? positive(power, `${name}.power`) : (absent(power, `${name}.power`, by) ?? 1),
  };
}

function absent(value: number | undefined, name: string, by: string): undefined {
  if (value !== undefined) throw cannotCombine(name, `by "${by}"`);
}

function checkJitter(jitter: number | undefined, scoring: Scoring, prefix: string): number {
  if (scoring === "sparsemixer") return jitter ?? 0.01;
  if (jitter !== undefined) throw cannotCombine(`${prefix}jitter`, `scoring ${scoring}`);
  return 0;
}
