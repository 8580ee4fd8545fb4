import { checkChoice, checkInteger, checkOptions, invalidArgument } from "../../core/errors.js";
import { type Drop, drops, type KeptDivisor, keptDivisors } from "../../core/routing_rule.js";

/** How many tokens an expert takes: `tokens`, or a share of the tokens by `factor`. */
export interface CapacitySize {
  /** The number itself. */
  tokens?: number;
  /** Or the multiple of an even spread that it is: factor * T * k / E, rounded. */
  factor?: number;
  /** Where `factor` gives a fraction; default up. */
  round?: "up" | "down";
  /** Then at least this; default 0. */
  minimum?: number;
  /** Then rounded up to a multiple of this; default 1. */
  multipleOf?: number;
}

/** How many choices of the tokens an expert takes, and which; the others are dropped. */
export interface Capacity extends CapacitySize {
  /** Whether each expert takes so many of all tokens (`batch`, default) or of every sequence. */
  per?: "batch" | "sequence";
  /**
   * Which choices go first. `position` (default; Switch, arXiv 2101.03961; GShard, arXiv 2006.16668): all first choices in
   * order of the token, then all second choices, and so on. `prioritized` (batch-prioritised routing, arXiv 2106.05974):
   * the same with the tokens in descending order of their largest weight. `probability`: the largest weights.
   */
  drop?: Drop;
  /** Whether the weights that a token keeps are divided by their sum, or by another one; default false. */
  renormalize?: boolean | Renormalize;
}

/** How kept weights are renormalised. */
export interface Renormalize {
  /** The sum that they are divided by: of the `kept` (default) or of all that the token has `chosen`. */
  by?: "kept" | "chosen";
  /** What they are multiplied by then; default 1. */
  scale?: number;
}

/** A capacity with its defaults filled in. */
export type CapacityRule = CapacitySize & Required<Pick<Capacity, "per" | "drop">> & KeptWeights;

/** What becomes of the weights that are kept. */
export interface KeptWeights {
  divisor: KeptDivisor;
  scale: number;
}

/** Checks a capacity and fills in the defaults; errors name its fields behind `prefix`. */
export function checkCapacity(capacity: Capacity, prefix = ""): CapacityRule {
  checkCapacitySize(capacity, prefix);
  const { per = "batch", drop = "position", renormalize = false, ...size } = capacity;
  checkChoice(`${prefix}per`, per, ["batch", "sequence"]);
  checkChoice(`${prefix}drop`, drop, drops);
  return { ...size, per, drop, ...checkRenormalize(renormalize, `${prefix}renormalize`) };
}

function checkRenormalize(renormalize: boolean | Renormalize, name: string): KeptWeights {
  if (typeof renormalize === "boolean") return { divisor: renormalize ? "kept" : "none", scale: 1 };
  if (typeof renormalize !== "object" || renormalize === null) {
    throw invalidArgument(name, 'a boolean or { by: "kept", scale: 1 }', renormalize);
  }
  const { by = "kept", scale = 1 } = renormalize;
  checkChoice(
    `${name}.by`,
    by,
    keptDivisors.filter((divisor) => divisor !== "none"),
  );
  if (typeof scale !== "number" || !Number.isFinite(scale)) {
    throw invalidArgument(`${name}.scale`, "a finite number", scale);
  }
  return { divisor: by, scale };
}

/** Checks the fields that decide how many tokens an expert takes; errors name them behind `prefix`. */
export function checkCapacitySize(size: CapacitySize, prefix = ""): void {
  const { tokens, factor, round, minimum, multipleOf } = size;
  if (tokens !== undefined) {
    checkInteger(`${prefix}tokens`, tokens, 0);
    for (const [name, value] of Object.entries({ factor, round, minimum, multipleOf })) {
      if (value !== undefined) throw invalidArgument(`${prefix}${name}`, "none beside tokens", value);
    }
    return;
  }
  if (typeof factor !== "number" || !(factor >= 0) || !Number.isFinite(factor)) {
    throw invalidArgument(`${prefix}factor`, "a finite number >= 0, or tokens in its place", factor);
  }
  if (round !== undefined) checkChoice(`${prefix}round`, round, ["up", "down"]);
  if (minimum !== undefined) checkInteger(`${prefix}minimum`, minimum, 0);
  if (multipleOf !== undefined) checkInteger(`${prefix}multipleOf`, multipleOf, 1);
}

/**
 * How many choices an expert takes of `numTokens` tokens, those of a sequence or of the batch, that choose topK of
 * numExperts experts each. A product that is within 1e-9 of a whole number counts as it, as 1.1 * 50 tokens are 55 and not
 * 55.00000000000001.
 * @throws INVALID_ARGUMENT.
 */
export function expertCapacity(size: CapacitySize, numTokens: number, topK: number, numExperts: number): number {
  checkOptions(size, "{ factor: 1.25 }", "capacity");
  checkCapacitySize(size);
  checkInteger("numTokens", numTokens, 0);
  checkInteger("topK", topK, 0);
  checkInteger("numExperts", numExperts, 1);
  const { tokens, factor = 0, round = "up", minimum = 0, multipleOf = 1 } = size;
  if (tokens !== undefined) return tokens;
  const exact = (factor * numTokens * topK) / numExperts;
  const nearest = Math.round(exact);
  const isWhole = Math.abs(exact - nearest) <= 1e-9 * nearest;
  const whole = isWhole ? nearest : round === "up" ? Math.ceil(exact) : Math.floor(exact);
  return Math.ceil(Math.max(whole, minimum) / multipleOf) * multipleOf;
}
