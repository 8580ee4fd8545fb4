import type { FloatDType } from "../dtype.js";
import type { Tensor } from "../tensor.js";
import { resultDType } from "./check.js";
import { columnMeans } from "./column_means.js";
import { checkScoring, type RouterScoresOptions } from "./router_scores.js";

/** The mean scores [S, E] f32 of logits [T, E] over each sequence. */
export function meanScores(
  logits: Tensor<FloatDType>,
  sequences: number,
  options: Omit<RouterScoresOptions, "out">,
): Tensor<"f32"> {
  const { scoring, normalize } = checkScoring(options);
  using scores = logits.device.empty(logits.shape, resultDType(logits));
  logits.device.backend.routerScores(logits.handle, scores.handle, null, null, scoring, normalize);
  return columnMeans(scores, { sequences });
}

/** [1] f32: the mean over the tokens of logits [T, E] of the entropy, or of the square of ln Σ exp. */
export function tokenMean(logits: Tensor<FloatDType>, of: "entropy" | "squaredLogSumExp"): Tensor<"f32"> {
  const tokens = logits.shape[0] as number;
  using values = logits.device.empty([tokens, 1], resultDType(logits));
  const [logSumExp, entropy] = of === "entropy" ? [null, values.handle] : [values.handle, null];
  logits.device.backend.routerScores(logits.handle, null, logSumExp, entropy, "softmax", false);
  using mean = columnMeans(values, { square: of === "squaredLogSumExp" });
  return mean.reshape([1]);
}
