import { expertScorings, gatingRule } from "../layer/routing_rule.js";
import { choice, input, integer, operator, optionalInput, optionalOutput, output } from "./field.js";

/** From tokens to a routing: the experts of each token, their weights, and the rows in expert order. */
export const routing = {
  /** logits [T, E] f32 = x [T, H] weight [E, H]^T + bias [E]. */
  routerProjection: operator({ x: input, weight: input, bias: optionalInput, logits: output }),
  /**
   * From dLogits [T, E]: dx [T, H] = dLogits weight [E, H] and dWeight [E, H] f32 = dLogits^T x [T, H], in an
   * order that depends on the sizes alone.
   */
  routerProjectionBackward: operator({ x: input, weight: input, dLogits: input, dx: output, dWeight: output }),
  /** ids [T, k] i32 and weights [T, k] f32 from logits [T, E] and the selection bias [E]. */
  gating: operator({ logits: input, selectionBias: optionalInput, ids: output, weights: output, rule: gatingRule }),
  /** weights [T, k] f32 of a choice ids [T, k] that is given: what gating would give them. */
  gatingWeights: operator({ logits: input, ids: input, weights: output, rule: gatingRule }),
  /** dLogits [T, E] f32 from dWeights [T, k], the gradient of gating's weights, with the choice ids [T, k] held fixed. */
  gatingBackward: operator({ logits: input, ids: input, dWeights: input, dLogits: output, rule: gatingRule }),
  /**
   * ids [T, k1 * k2] i32 and weights f32: `groups` chooses k1 groups by groupLogits [T, G]; `experts` chooses k2 of the
   * E / G neighbouring experts of each group by their logits [T, E]. Weights are the products of both gates' weights.
   */
  hierarchicalGating: operator({
    groupLogits: input,
    logits: input,
    ids: output,
    weights: output,
    groups: gatingRule,
    experts: gatingRule,
  }),
  /** dGroupLogits [T, G] and dLogits [T, E] f32 from dWeights [T, k1 * k2], with the choice ids held fixed. */
  hierarchicalGatingBackward: operator({
    groupLogits: input,
    logits: input,
    ids: input,
    dWeights: input,
    dGroupLogits: output,
    dLogits: output,
    groups: gatingRule,
    experts: gatingRule,
  }),
  /**
   * From logits [T, E], the C tokens with the largest scores for every expert: tokens [E, C] i32 and their weights [E,
   * C] f32, best first. The same as a routing: ids [T, E] i32, with e or -1 in column e, and weights [T, E] f32.
   */
  expertChoice: operator({
    logits: input,
    tokens: output,
    tokenWeights: output,
    ids: output,
    weights: output,
    scoring: choice(expertScorings),
  }),
  /** ids [T, k] i32: the rows of table [V, k] that tokenIds [T] name, of -1 for a token id of -1. */
  lookUpExperts: operator({ table: input, tokenIds: input, ids: output }),
  /**
   * slotIds and slotWeights [T, k + sharedExperts]: a token's choices, numbered within the bank, or -1, then the shared
   * experts bankCount + j. Shared experts weigh 1, the sigmoid of gate [T, 1], or the second entry of the softmax of
   * gate [T, 2], whose first entry multiplies the other weights.
   */
  sharedSlots: operator({
    ids: input,
    weights: input,
    gate: optionalInput,
    slotIds: output,
    slotWeights: output,
    numExperts: integer,
    bankFirst: integer,
    bankCount: integer,
    sharedExperts: integer,
  }),
  /** dWeights [T, k], and dGate if there is a gate, from dSlotWeights [T, k + the shared experts]. */
  sharedSlotsBackward: operator({
    weights: input,
    gate: optionalInput,
    dSlotWeights: input,
    dWeights: output,
    dGate: optionalOutput,
  }),
  /**
   * From ids [T, k]: offsets [E+1], tokensPerExpert [E], tokenOfRow [T*k] (-1 after the last row), rowOfSlot [T, k]
   * (-1 if the id is -1); all i32. The rows of an expert are in order of (token, slot).
   */
  sort: operator({ ids: input, offsets: output, tokensPerExpert: output, tokenOfRow: output, rowOfSlot: output }),
};
