import type { FloatDType } from "../dtype.js";
import { checkOptions } from "../errors.js";
import type { Tensor } from "../tensor.js";
import { checkTensor } from "./check.js";
import { type ExpertTotals, expertTotals } from "./expert_totals.js";
import { maximumViolation } from "./imbalance.js";
import { tokenMean } from "./mean_scores.js";

/** What a router did with one batch. */
export interface RouterStatistics extends ExpertTotals {
  /** [1] f32: the mean over the tokens of the entropy of the softmax of their logits, natural logarithm. */
  readonly meanEntropy: Tensor<"f32">;
  /** [1] f32: the largest count of tokens / the mean count - 1, over all experts and sequences. */
  readonly maximumViolation: Tensor<"f32">;
}

/**
 * Tokens per expert, drops, mean entropy and maximum violation of one batch, all on the device.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @param ids [T, k] i32, as {@link expertTotals} takes them.
 * @param options.sequences S, sequences of equal length in the T tokens; default 1.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function routerStatistics(
  logits: Tensor<FloatDType>,
  ids: Tensor<"i32">,
  options: { sequences?: number } = {},
): RouterStatistics {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const [tokens, numExperts] = logits.shape as [number, number];
  checkTensor("ids", ids, ["i32"], [tokens, "k"], logits.device);
  checkOptions(options, "{ sequences: 4 }");
  const { sequences = 1 } = options;
  const totals = expertTotals(ids, { numExperts, sequences });
  const meanEntropy = tokenMean(logits, "entropy");
  return { ...totals, meanEntropy, maximumViolation: maximumViolation(totals.tokens) };
}
