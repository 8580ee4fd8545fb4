import { drops, keptDivisors } from "../routing_rule.js";
import { choice, input, integer, number, operator, output } from "./field.js";

/** What experts take at most. */
export const capacity = {
  /**
   * ids and weights [T, k] as given, with id -1 and weight 0 for the choices that are more than the experts take: each
   * `capacity` of a sequence of `sequenceLength` tokens, which divides T. A token's kept weights are divided as `divisor`
   * says, then multiplied by `scale`.
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
  /** slots [E, C] i32: token * k + j of the first C choices of every expert in ids [T, k], -1 after them. */
  expertSlots: operator({ ids: input, slots: output }),
};
