import { type Fields, object, optional, unchecked } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkSequences, checkTensor, type TokenMaskOption, tokenMaskField } from "../check.js";
import { type ExpertTotals, expertTotals } from "./expert_totals.js";
import { maximumViolation } from "./imbalance.js";
import { tokenMean } from "./mean_scores.js";

/** What a router did with one batch. */
export interface RouterStatistics extends ExpertTotals {
  /** [1] f32: the mean over the tokens of the softmax entropy of their logits, in nats. */
  readonly meanEntropy: Tensor<"f32">;
  /** [1] f32: the largest count of tokens / the mean count - 1, over all experts and sequences. */
  readonly maximumViolation: Tensor<"f32">;
}

/** Options of {@link routerStatistics}. */
export interface RouterStatisticsOptions extends TokenMaskOption {
  /** S: the T tokens are S sequences of equal length, one after another; default 1. */
  sequences?: number | undefined;
}

const statisticsOptions = object(
  { sequences: optional(unchecked, 1), ...tokenMaskField } satisfies Fields<RouterStatisticsOptions>,
  "{ sequences: 4 }",
);

/**
 * Tokens per expert, drops, mean entropy and maximum violation of one batch, all on the device.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @param ids [T, k] i32, as {@link expertTotals} takes them.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function routerStatistics(
  logits: Tensor<FloatDType>,
  ids: Tensor<"i32">,
  options: RouterStatisticsOptions = {},
): RouterStatistics {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const [tokens, numExperts] = logits.shape as [number, number];
  checkTensor("ids", ids, ["i32"], [tokens, "k"], logits.device);
  const { sequences, tokenMask } = statisticsOptions(options, "options");
  checkSequences(sequences, tokens);
  using made = new Made();
  const totals = expertTotals(ids, { numExperts, sequences, tokenMask });
  for (const tensor of [totals.tokens, totals.dropped]) made.own(tensor);
  using entropy = tokenMean(logits, "entropy", { tokenMask });
  const meanEntropy = made.own(entropy.mean.reshape([1]));
  return made.returned({ ...totals, meanEntropy, maximumViolation: maximumViolation(totals.tokens) });
}
