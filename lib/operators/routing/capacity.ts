import { cannotCombine, checkInteger, invalidArgument } from "../../core/errors.js";
import {
  booleanOr,
  choice,
  type Fields,
  finite,
  integer,
  number,
  object,
  optional,
  type Read,
} from "../../core/input/options.js";
import { type Drop, drops, type KeptDivisor } from "../../core/layer/routing_rule.js";

/** How many tokens an expert takes: a fixed number `tokens`, or a share of the tokens given by a capacity `factor`. */
export interface CapacitySize {
  /** The number of tokens. */
  tokens?: number | undefined;
  /** Instead of `tokens`, the capacity factor, a multiple of an even share: factor * T * k / E, rounded. */
  factor?: number | undefined;
  /** How to round that share; default up. */
  round?: "up" | "down" | undefined;
  /** Lower limit of the rounded share; default 0. */
  minimum?: number | undefined;
  /** The result is rounded up to a multiple of this; default 1. */
  multipleOf?: number | undefined;
}

/** How many choices an expert takes, and which; the others are dropped. */
export interface Capacity extends CapacitySize {
  /** Whether the capacity applies to the whole batch (default) or to every sequence. */
  per?: "batch" | "sequence" | undefined;
  /**
   * Which choices are accepted first. `position` (default; Switch, arXiv 2101.03961; GShard, arXiv 2006.16668): all
   * first choices in token order, then all second choices, and so on. `prioritized` (batch-prioritised routing, arXiv
   * 2106.05974): the same with tokens in descending order of their largest weight. `probability`: the largest weights.
   */
  drop?: Drop | undefined;
  /** Whether a token's kept weights are divided by their sum, or as described; a sum of 0 leaves them. Default false. */
  renormalize?: boolean | Renormalize | undefined;
}

/** How kept weights are renormalised. */
export interface Renormalize {
  /**
   * The divisor: the sum of the `kept` weights (default), or of the weights of all experts that the token has `chosen`.
   */
  by?: "kept" | "chosen" | undefined;
  /** Multiplies the weights after that; default 1. */
  scale?: number | undefined;
}

const factorExpected = "a finite number >= 0, or tokens instead";

export const capacitySizeFields = {
  tokens: optional(integer(0)),
  factor: optional(number((value) => value >= 0 && Number.isFinite(value), factorExpected)),
  round: optional(choice(["up", "down"])),
  minimum: optional(integer(0)),
  multipleOf: optional(integer(1)),
} satisfies Fields<CapacitySize>;

/** Reads a {@link CapacitySize}; call {@link checkCapacitySize} on the result. */
export const capacitySize = object(capacitySizeFields, "{ factor: 1.25 }");

/** A {@link CapacitySize} after reading. */
export interface CapacityAmount {
  /** The number of tokens; undefined if a factor is given. */
  readonly tokens: number | undefined;
  /** The capacity factor; undefined if a number is given. */
  readonly factor: number | undefined;
  /** How the share is rounded; undefined: up. */
  readonly round: "up" | "down" | undefined;
  /** Lower limit of the share; undefined: 0. */
  readonly minimum: number | undefined;
  /** What the result is rounded up to a multiple of; undefined: 1. */
  readonly multipleOf: number | undefined;
}

const renormalizeFields = {
  by: optional(choice(["kept", "chosen"]), "kept"),
  scale: optional(finite, 1),
} satisfies Fields<Renormalize>;
const renormalizeExample = '{ by: "kept", scale: 1 }';

export const renormalizeOption = optional(
  booleanOr(object(renormalizeFields, renormalizeExample), `a boolean or ${renormalizeExample}`),
  false,
);

export const capacityFields = {
  ...capacitySizeFields,
  per: optional(choice(["batch", "sequence"]), "batch"),
  drop: optional(choice(drops), "position"),
  renormalize: renormalizeOption,
} satisfies Fields<Capacity>;

/** Reads a {@link Capacity}; call {@link checkCapacity} on the result. */
export const capacityOption = object(capacityFields, "{ factor: 1.25 }");

/** A checked {@link Capacity}. */
export interface CapacityRule extends CapacityAmount, KeptWeights {
  /** What shares a capacity: the batch or each sequence. */
  readonly per: "batch" | "sequence";
  /** Which choices are accepted first. */
  readonly drop: Drop;
}

/** How kept weights are divided and scaled. */
export interface KeptWeights {
  /** What kept weights are divided by. */
  readonly divisor: KeptDivisor;
  /** What they are multiplied by after that. */
  readonly scale: number;
}

/** Checks that a capacity's fields make sense together; errors name them with `prefix`. */
export function checkCapacity(capacity: Read<typeof capacityOption>, prefix = ""): CapacityRule {
  checkCapacitySize(capacity, prefix);
  const { tokens, factor, round, minimum, multipleOf, per, drop } = capacity;
  const { divisor, scale } = keptWeights(capacity.renormalize);
  return { tokens, factor, round, minimum, multipleOf, per, drop, divisor, scale };
}

/** How kept weights are divided and scaled, as an option says it. */
export function keptWeights(renormalize: Read<typeof capacityOption>["renormalize"]): KeptWeights {
  if (typeof renormalize === "object") return { divisor: renormalize.by, scale: renormalize.scale };
  return { divisor: renormalize ? "kept" : "none", scale: 1 };
}

/** Checks that the fields of a capacity's size make sense together; errors name them with `prefix`. */
export function checkCapacitySize(amount: CapacityAmount, prefix = ""): void {
  const { tokens, factor, round, minimum, multipleOf } = amount;
  if (tokens === undefined) {
    if (factor === undefined) throw invalidArgument(`${prefix}factor`, factorExpected, factor);
    return;
  }
  for (const [name, value] of Object.entries({ factor, round, minimum, multipleOf })) {
    if (value !== undefined) throw cannotCombine(`${prefix}${name}`, `${prefix}tokens`);
  }
}

/**
 * How many choices an expert takes if `numTokens` tokens (of a sequence or of the batch) each choose topK of numExperts
 * experts. A share within a relative 1e-9 of a whole number counts as that number: 1.1 * 50 tokens are 55, not
 * 55.00000000000001.
 * @throws INVALID_ARGUMENT.
 */
export function expertCapacity(size: CapacitySize, numTokens: number, topK: number, numExperts: number): number {
  const amount = capacitySize(size, "capacity");
  checkCapacitySize(amount, "capacity.");
  checkInteger("numTokens", numTokens, 0);
  checkInteger("topK", topK, 0);
  checkInteger("numExperts", numExperts, 1);
  return capacityOf(amount, numTokens, topK, numExperts);
}

/** {@link expertCapacity} with checked arguments. */
export function capacityOf(amount: CapacityAmount, numTokens: number, topK: number, numExperts: number): number {
  const { tokens, factor = 0, round = "up", minimum = 0, multipleOf = 1 } = amount;
  if (tokens !== undefined) return tokens;
  const exact = (factor * (numTokens * topK)) / numExperts;
  const nearest = Math.round(exact);
  const isWhole = Math.abs(exact - nearest) <= 1e-9 * nearest;
  const whole = isWhole ? nearest : round === "up" ? Math.ceil(exact) : Math.floor(exact);
  return Math.min(Math.ceil(Math.max(whole, minimum) / multipleOf) * multipleOf, Number.MAX_SAFE_INTEGER);
}
