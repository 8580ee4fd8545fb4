import type { FloatDType } from "../dtype.js";
import type { Tensor } from "../tensor.js";
import { checkTensor } from "./check.js";
import { tokenMean } from "./mean_scores.js";

/**
 * The router z-loss: the mean over the tokens of (ln Σₑ exp(logitₑ))², which keeps logits small (ST-MoE, arXiv 2202.08906,
 * equation 5, without its coefficient of 1e-3).
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @returns [1] f32; 0 for T = 0, Infinity where the largest logit of a row is infinite.
 * @throws SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DISPOSED.
 */
export function zLoss(logits: Tensor<FloatDType>): Tensor<"f32"> {
  checkTensor("logits", logits, "float", ["T", "E"]);
  return tokenMean(logits, "squaredLogSumExp");
}
