import { invalidArgument } from "../../core/errors.js";
import { boolean, choice, type Fields, object, optional, results } from "../../core/input/options.js";
import { type ExpertScoring, expertScorings } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkOptional, checkTensor, output, resultDType } from "../check.js";

/** The gradients of {@link routerScores}' results, all f32; one that is left out is 0. */
export interface RouterScoresGradients {
  /** [T, E] */
  readonly dScores?: Tensor<"f32"> | undefined;
  /** [T] */
  readonly dLogSumExp?: Tensor<"f32"> | undefined;
  /** [T] */
  readonly dEntropy?: Tensor<"f32"> | undefined;
}

/** Options of {@link routerScoresBackward}. */
export interface RouterScoresBackwardOptions {
  /** As routerScores took it: `softmax` (default) or `sigmoid`. */
  scoring?: ExpertScoring | undefined;
  /** As routerScores took it; default false. */
  normalize?: boolean | undefined;
  /** Where to write, [T, E] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const gradientRecord = results({
  dScores: optional(tensor<"f32">()),
  dLogSumExp: optional(tensor<"f32">()),
  dEntropy: optional(tensor<"f32">()),
});

const backwardOptions = object(
  {
    scoring: optional(choice(expertScorings), "softmax"),
    normalize: optional(boolean, false),
    out: optional(tensor<"f32">()),
  } satisfies Fields<RouterScoresBackwardOptions>,
  '{ scoring: "softmax" }',
);

/**
 * The gradient of {@link routerScores}. With the softmax p and g = dScores: p (g - Σ p g) for softmax scores, s (1 - s) g
 * for sigmoids s, and q (1 - s) (g - Σ q g) for normalised ones q = s / Σ s; plus p · dLogSumExp, minus
 * p (ln p + entropy) · dEntropy. A logit that is not finite gets 0.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @param gradients at least one.
 * @returns dLogits [T, E] f32.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function routerScoresBackward(
  logits: Tensor<FloatDType>,
  gradients: RouterScoresGradients,
  options: RouterScoresBackwardOptions = {},
): Tensor<"f32"> {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { device, shape } = logits;
  const { dScores, dLogSumExp, dEntropy } = gradientRecord(gradients, "gradients");
  const { scoring, normalize, out } = backwardOptions(options, "options");
  const dtype = resultDType(logits);
  const perToken = [shape[0] as number];
  checkOptional("gradients.dScores", dScores, [dtype], shape, device);
  checkOptional("gradients.dLogSumExp", dLogSumExp, [dtype], perToken, device);
  checkOptional("gradients.dEntropy", dEntropy, [dtype], perToken, device);
  if (dScores === undefined && dLogSumExp === undefined && dEntropy === undefined) {
    throw invalidArgument("gradients", "at least one of dScores, dLogSumExp and dEntropy", gradients);
  }
  const dLogits = output("out", out, device, shape, dtype, [logits, dScores, dLogSumExp, dEntropy]);
  device.backend.routerScoresBackward({
    logits: logits.handle,
    dScores: dScores?.handle,
    dLogSumExp: dLogSumExp?.handle,
    dEntropy: dEntropy?.handle,
    dLogits: dLogits.handle,
    scoring,
    normalize,
  });
  return dLogits;
}
