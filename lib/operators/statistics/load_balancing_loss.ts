import { unexpected } from "../../core/errors.js";
import { choice, type Fields, object, optional, type Read, unchecked } from "../../core/input/options.js";
import { type ExpertScoring, expertScorings } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkSequences, checkTensor, resultDType, type TokenMaskOption, tokenMaskField } from "../check.js";
import { expertTotals } from "./expert_totals.js";
import { meanScores } from "./mean_scores.js";

/** What an expert's count is divided by. */
export type LoadNormalization = "choices" | "tokens";

/** Options of {@link loadBalancingLoss}. */
export interface LoadBalancingLossOptions extends TokenMaskOption {
  /** Scores to average: `softmax` (default), or `sigmoid` divided by their sum over all experts. */
  scoring?: ExpertScoring | undefined;
  /**
   * S: the T tokens are S sequences of equal length. The loss is the mean of the sequences' losses, leaving out
   * sequences in which no token counts. Default 1, the whole batch.
   */
  sequences?: number | undefined;
  /** Which ids of a token count: all (default), or only its first, as in GShard. */
  choices?: "all" | "first" | undefined;
  /**
   * What an expert's count is divided by to give its share f: the number of `choices` that count (default; an even load
   * costs 1) or of `tokens` (Flaxformer, Hugging Face's Mixtral; an even load costs k).
   */
  normalization?: LoadNormalization | undefined;
}

export const lossFields = {
  scoring: optional(choice(expertScorings), "softmax"),
  sequences: optional(unchecked, 1),
  choices: optional(choice(["all", "first"]), "all"),
  normalization: optional(choice(["choices", "tokens"]), "choices"),
  ...tokenMaskField,
} satisfies Fields<LoadBalancingLossOptions>;

const lossOptions = object(lossFields, "{ sequences: 4 }");

/**
 * Auxiliary loss that is smallest when experts share the tokens evenly: E * Σₑ fₑ Pₑ, where fₑ is the share of choices
 * that went to expert e and Pₑ the mean of its scores.
 *
 * Sources: Switch Transformers (arXiv 2101.03961, equation 4) for k = 1, and Megatron-LM's extension to k choices;
 * GShard (arXiv 2006.16668): `choices: "first"`; DeepSeek-V3 (arXiv 2412.19437, equations 17-20), without its
 * coefficient alpha: `scoring: "sigmoid"` and `sequences`. An id of -1 counts for no expert, but the scores of its
 * token still count.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @param ids [T, k] i32, as {@link expertTotals} takes them; for the published losses, the ids before any are dropped.
 * @returns [1] f32; 0 if no token counts.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function loadBalancingLoss(
  logits: Tensor<FloatDType>,
  ids: Tensor<"i32">,
  options: LoadBalancingLossOptions = {},
): Tensor<"f32"> {
  const { scoring, sequences, tokenMask, numExperts, counted, scale } = checkLoss(logits, ids, lossOptions, options);
  const { device } = logits;
  const normalize = scoring === "sigmoid";
  using means = meanScores(logits, { scoring, normalize }, { sequences, tokenMask });
  const totals = expertTotals(ids, { numExperts, sequences, choices: counted, tokenMask });
  using tokens = totals.tokens;
  totals.dropped.dispose();
  const loss = device.empty([1], resultDType(logits));
  device.backend.balanceLoss({
    tokens: tokens.handle,
    means: means.mean.handle,
    counts: means.counts.handle,
    loss: loss.handle,
    scale,
  });
  return loss;
}

/**
 * Checks the arguments of the loss and reads its options, which may have more fields. Counts the first `counted` choices
 * of each token, and multiplies the sum over the experts of tokens · mean score / tokens in all by `scale`.
 */
export function checkLoss<O extends Read<typeof lossOptions>>(
  logits: Tensor<FloatDType>,
  ids: Tensor<"i32">,
  read: (options: unknown, name: string) => O,
  options: unknown,
) {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const [tokens, numExperts] = logits.shape as [number, number];
  checkTensor("ids", ids, ["i32"], [tokens, "k"], logits.device);
  const given = read(options, "options");
  const { sequences } = given;
  checkSequences(sequences, tokens);
  const topK = ids.shape[1] as number;
  if (topK === 0) throw unexpected("ids", "at least one choice per token", "k = 0");
  const counted = given.choices === "first" ? 1 : topK;
  const scale = numExperts / (given.normalization === "choices" ? counted : 1);
  return { ...given, sequences, numExperts, counted, scale };
}
