import { activations } from "../layer/activation.js";
import {
  boolean,
  choice,
  input,
  integer,
  matrix,
  number,
  operator,
  optionalInput,
  optionalOutput,
  output,
  packedExperts,
  rule,
} from "./field.js";

const clamp = rule({ alpha: number, limit: number, upLimit: number, offset: number });

/**
 * An activation and its parameters. With `offsets`, the rows of the last `sharedExperts` experts have `sharedClamp` in place
 * of `clamp`.
 */
const activation = { activation: choice(activations), clamp, sharedClamp: clamp, sharedExperts: integer };

/** Moves rows to the experts, through them and back. */
export const experts = {
  /** rows [R, H]: row r is x[tokenOfRow[r]], or zeros if that is -1. */
  permute: operator({ x: input, tokenOfRow: input, rows: output }),
  /** slots [T, k, H]: slot (t, j) is rows[rowOfSlot[t, j]], or zeros if that is -1. */
  unpermute: operator({ rows: input, rowOfSlot: input, slots: output }),
  /**
   * y [R, N]: activation(x_r weight[e]^T + bias[e]) for the rows offsets[e] .. offsets[e+1] of expert e, where x_r is
   * x[tokenOfRow[r]] with tokenOfRow, else x[r]. Rows of token -1, and those from offsets[E] on, are zeros.
   */
  groupedGemm: operator({
    x: input,
    weight: packedExperts,
    bias: optionalInput,
    offsets: input,
    tokenOfRow: optionalInput,
    y: output,
  }),
  /**
   * inner [R, I] = activation(pre) * multiplier; pre is [R, I], or [R, 2I] if gated: I gate values, then I up values,
   * whose activation is act(gate) * up. With offsets [E+1], the rows of the last sharedExperts experts have sharedClamp.
   */
  activate: operator({ pre: input, multiplier: optionalInput, offsets: optionalInput, inner: output, ...activation }),
  /**
   * dPre and dMultiplier from dInner [R, I], and inner itself. There is dMultiplier only with a multiplier. Clamps are as in
   * activate.
   */
  activationBackward: operator({
    pre: input,
    multiplier: optionalInput,
    offsets: optionalInput,
    dInner: input,
    dPre: output,
    dMultiplier: optionalOutput,
    inner: optionalOutput,
    ...activation,
  }),
  /**
   * From dy [R, N], the gradient of groupedGemm's y without an activation: dWeight [E, N, K] f32 = sum of dy[r]^T x_r and
   * dBias [E, N] f32 = sum of dy[r], over the rows of expert e that have a token, in an order that depends on the rows
   * alone. With `accumulate` they are added to what the outputs hold.
   */
  groupedGemmWeightBackward: operator({
    x: input,
    tokenOfRow: optionalInput,
    dy: input,
    offsets: input,
    accumulate: boolean,
    dWeight: output,
    dBias: optionalOutput,
  }),
  /**
   * y [T, H] = sum over j of weights[t, j] * rows[rowOfSlot[t, j]], in order of j, float32; -1 adds nothing. The residual
   * [T, H], if there is one, is added last.
   */
  combine: operator({ rows: input, rowOfSlot: input, weights: input, residual: optionalInput, y: output }),
  /**
   * From dy [T, H]: dRows [R, H], weights[t, j] * dy[t] in row rowOfSlot[t, j] and zeros in rows without a slot, and
   * dWeights [T, k], the dot product of rows[rowOfSlot[t, j]] and dy[t], 0 for -1. `rows` may be left out without
   * dWeights.
   */
  combineBackward: operator({
    rows: optionalInput,
    rowOfSlot: input,
    weights: input,
    dy: input,
    dRows: optionalOutput,
    dWeights: optionalOutput,
  }),
  /** target [rows, columns] = source, rounded to target's dtype. */
  copyMatrix: operator({ source: matrix, target: output }),
  /** y [T, H] = x[t] / sqrt(mean(x[t]^2) + epsilon) * (weight + offset), in float32. */
  rmsNorm: operator({ x: input, weight: input, y: output, epsilon: number, offset: number }),
  /**
   * From dy [T, H]: dx, to which the residual is added if there is one, and the terms [T, H] f32 whose sums over tokens
   * are the gradient of the weight: dy[t] * x[t] / sqrt(mean(x[t]^2) + epsilon).
   */
  rmsNormBackward: operator({
    x: input,
    weight: input,
    dy: input,
    residual: optionalInput,
    dx: optionalOutput,
    terms: optionalOutput,
    epsilon: number,
    offset: number,
  }),
};
