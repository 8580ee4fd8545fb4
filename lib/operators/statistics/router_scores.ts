import { boolean, choice, type Fields, object, optional, results } from "../../core/input/options.js";
import { type ExpertScoring, expertScorings } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";

/** Scores, log-sum-exp and entropy of every token's logits. All f32. */
export interface RouterScores {
  /** [T, E], the score of every expert. */
  readonly scores: Tensor<"f32">;
  /** [T], ln Σₑ exp(logitₑ), the logarithm of the softmax's denominator. */
  readonly logSumExp: Tensor<"f32">;
  /** [T], -Σₑ pₑ ln pₑ of the softmax p, from 0 (all weight on one expert) to ln E (all experts equal). */
  readonly entropy: Tensor<"f32">;
}

/** Options of {@link routerScores}. */
export interface RouterScoresOptions {
  /** `softmax` (default) or `sigmoid`. */
  scoring?: ExpertScoring | undefined;
  /** Divide a token's scores by their sum over all experts, as DeepSeek-V3's balance loss does; default false. */
  normalize?: boolean | undefined;
  /** Where to write; default new tensors. */
  out?: RouterScores | undefined;
}

const scoresOptions = object(
  {
    scoring: optional(choice(expertScorings), "softmax"),
    normalize: optional(boolean, false),
    out: optional(results({ scores: tensor<"f32">(), logSumExp: tensor<"f32">(), entropy: tensor<"f32">() })),
  } satisfies Fields<RouterScoresOptions>,
  '{ scoring: "softmax" }',
);

/**
 * Scores of all experts for every token, with the log-sum-exp of its logits and the entropy of their softmax.
 *
 * A NaN logit counts as -Infinity and scores 0. If the largest logit of a row is infinite, so is its logSumExp; if it
 * is -Infinity, softmax scores and entropy are 0. With `normalize`, scores whose sum is 0 stay 0.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function routerScores(logits: Tensor<FloatDType>, options: RouterScoresOptions = {}): RouterScores {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { scoring, normalize, out } = scoresOptions(options, "options");
  const { device } = logits;
  const tokens = logits.shape[0] as number;
  const dtype = resultDType(logits);
  using outputs = new Outputs(device, [logits]);
  const scores = outputs.next("out.scores", out?.scores, logits.shape, dtype);
  const logSumExp = outputs.next("out.logSumExp", out?.logSumExp, [tokens], dtype);
  const entropy = outputs.next("out.entropy", out?.entropy, [tokens], dtype);
  device.backend.routerScores({
    logits: logits.handle,
    scores: scores.handle,
    logSumExp: logSumExp.handle,
    entropy: entropy.handle,
    scoring,
    normalize,
  });
  return outputs.returned({ scores, logSumExp, entropy });
}
