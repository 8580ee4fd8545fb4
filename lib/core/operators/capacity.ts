import { drops, keptDivisors } from "../layer/routing_rule.js";
import { choice, input, integer, number, operator, output } from "./field.js";

/** Limits on how many tokens an expert takes. */
export const capacity = {
  /**
   * A copy of ids and weights [T, k] in which choices beyond an expert's capacity have id -1 and weight 0. Each expert
   * takes `capacity` choices of every sequence of `sequenceLength` tokens, which divides T. A token's kept weights are
   * divided by `divisor`, then multiplied by `scale`.
   */
  limitCapacity: operator({
    ids: input,
    weights: input,
    keptIds: output,
    keptWeights: output,
    numExperts: integer,
    capacity: integer,
    sequenceLength: integer,
    drop: choice(drops),
    divisor: choice(keptDivisors),
    scale: number,
  }),
  /** dWeights [T, k] from dKeptWeights [T, k], the gradient of limitCapacity's weights, with keptIds held fixed. */
  limitCapacityBackward: operator({
    ids: input,
    weights: input,
    keptIds: input,
    dKeptWeights: input,
    dWeights: output,
    divisor: choice(keptDivisors),
    scale: number,
  }),
  /** slots [E, C] i32: token * k + j for the first C choices of every expert in ids [T, k], then -1. */
  expertSlots: operator({ ids: input, slots: output }),
};
