import { checkInteger } from "../../core/errors.js";
import { type Fields, object, optional, results, unchecked } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import {
  checkIds,
  checkOptional,
  checkResult,
  checkSequences,
  checkTokenMask,
  expertCount,
  resultDType,
  type TokenMaskOption,
  tokenMaskField,
} from "../check.js";
import { Outputs } from "../outputs.js";

/** How many tokens of each sequence go to each expert. */
export interface ExpertTotals {
  /** [S, E] i32: how many tokens chose the expert. */
  readonly tokens: Tensor<"i32">;
  /** [S] i32: how many choices have no expert (id -1). */
  readonly dropped: Tensor<"i32">;
}

/** {@link ExpertTotals} with sums of weights. */
export interface WeightedExpertTotals extends ExpertTotals {
  /** [S, E] f32: the sum of the weights with which tokens chose the expert, its importance (arXiv 1701.06538). */
  readonly weights: Tensor<"f32">;
}

/** Options of {@link expertTotals}. */
export interface ExpertTotalsOptions extends TokenMaskOption {
  /** E. */
  numExperts: number;
  /** [T, k] f32, the weights of the choices; default none. */
  weights?: Tensor<"f32"> | undefined;
  /** S: the T tokens are S sequences of equal length, one after another; default 1. */
  sequences?: number | undefined;
  /** Count only this many of each token's choices, the first ones; default k. */
  choices?: number | undefined;
  /** Where to write; default new tensors. */
  out?: ExpertTotals | WeightedExpertTotals | undefined;
}

const totalsOptions = object(
  {
    numExperts: expertCount,
    weights: optional(tensor<"f32">()),
    sequences: optional(unchecked, 1),
    choices: optional(unchecked),
    ...tokenMaskField,
    out: optional(results({ tokens: tensor<"i32">(), dropped: tensor<"i32">(), weights: optional(tensor<"f32">()) })),
  } satisfies Fields<ExpertTotalsOptions>,
  "{ numExperts: 8 }",
);

/**
 * For each sequence, counts the tokens that chose each expert and sums their weights.
 *
 * @param ids [T, k] i32, each -1 (no expert) or 0 .. E-1. Any other id is treated as -1 and reported as ID_OUT_OF_RANGE
 * at the next wait. Ids after the first `choices` of a token, and ids of masked tokens, are not read.
 * @throws INVALID_ARGUMENT (an option out of its range, T*k >= 2^31, sequences that do not divide T), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function expertTotals(
  ids: Tensor<"i32">,
  options: ExpertTotalsOptions & { weights: Tensor<"f32"> },
): WeightedExpertTotals;
export function expertTotals(ids: Tensor<"i32">, options: ExpertTotalsOptions): ExpertTotals;
export function expertTotals(ids: Tensor<"i32">, options: ExpertTotalsOptions): ExpertTotals {
  checkIds("ids", ids);
  const { device } = ids;
  const [tokenCount, topK] = ids.shape as [number, number];
  const { numExperts, weights, sequences, choices = topK, tokenMask, out } = totalsOptions(options, "options");
  checkSequences(sequences, tokenCount);
  checkInteger("choices", choices, 0, topK);
  checkOptional("weights", weights, "float32", ids.shape, device);
  checkResult(out, "weights", weights !== undefined, "weights");
  const mask = checkTokenMask(tokenMask, tokenCount, device);
  using outputs = new Outputs(device, [ids, weights, tokenMask]);
  const tokens = outputs.next("out.tokens", out?.tokens, [sequences, numExperts], "i32");
  const dropped = outputs.next("out.dropped", out?.dropped, [sequences], "i32");
  const operands = { ids: ids.handle, tokenMask: mask, tokens: tokens.handle, dropped: dropped.handle, choices };
  if (weights === undefined) {
    device.backend.expertTotals(operands);
    return outputs.returned({ tokens, dropped });
  }
  const sums = outputs.next("out.weights", out?.weights, [sequences, numExperts], resultDType(weights));
  device.backend.expertTotals({ ...operands, weights: weights.handle, sums: sums.handle });
  return outputs.returned({ tokens, dropped, weights: sums }) as WeightedExpertTotals;
}
