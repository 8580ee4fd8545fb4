import { expertScorings, gatingRule } from "../routing_rule.js";
import { choice, input, operator, optionalInput, output } from "./field.js";

/** From tokens to a routing: which experts each token goes to, with what weights, in what order. */
export const routing = {
  /** logits [T, E] f32 = x [T, H] weight [E, H]^T + bias [E]. */
  routerProjection: operator({ x: input, weight: input, bias: optionalInput, logits: output }),
  /** ids [T, k] i32, weights [T, k] f32 from logits [T, E] and the bias [E] of the selection. */
  gating: operator({ logits: input, selectionBias: optionalInput, ids: output, weights: output, rule: gatingRule }),
  /**
   * ids [T, k1 * k2] i32 and weights f32: `groups` chooses k1 groups by groupLogits [T, G], `experts` k2 of each group's
   * E / G neighbouring experts by their part of logits [T, E]; weights are products.
   */
  hierarchicalGating: operator({
    groupLogits: input,
    logits: input,
    ids: output,
    weights: output,
    groups: gatingRule,
    experts: gatingRule,
  }),
  /**
   * From logits [T, E], every expert's C tokens of the largest scores: tokens [E, C] i32 and their weights [E, C] f32, best
   * first; and the same as ids [T, E] i32 and weights [T, E] f32, in column e expert e or -1.
   */
  expertChoice: operator({
    logits: input,
    tokens: output,
    tokenWeights: output,
    ids: output,
    weights: output,
    scoring: choice(expertScorings),
  }),
  /**
   * From ids [T, k]: offsets [E+1], tokensPerExpert [E], tokenOfRow [T*k] (-1 after the last row), rowOfSlot [T, k]
   * (-1 where the id is -1); all i32. Rows of one expert are in order of (token, slot).
   */
  sort: operator({ ids: input, offsets: output, tokensPerExpert: output, tokenOfRow: output, rowOfSlot: output }),
};
