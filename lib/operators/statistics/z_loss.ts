import { object } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkTensor, type TokenMaskOption, tokenMaskField } from "../check.js";
import { tokenMean } from "./mean_scores.js";

const lossOptions = object(tokenMaskField, "{ tokenMask }");

/**
 * The router z-loss: the mean over the tokens of (ln Σₑ exp(logitₑ))², which keeps logits small (ST-MoE, arXiv
 * 2202.08906, equation 5, without its coefficient of 1e-3).
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @returns [1] f32; 0 if no token counts, Infinity if the largest logit of a row is infinite.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function zLoss(logits: Tensor<FloatDType>, options: TokenMaskOption = {}): Tensor<"f32"> {
  checkTensor("logits", logits, "float", ["T", "E"]);
  using means = tokenMean(logits, "squaredLogSumExp", lossOptions(options, "options"));
  return means.mean.reshape([1]);
}
