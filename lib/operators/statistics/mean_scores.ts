import type { Device } from "../../core/device/device.js";
import type { ExpertScoring } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkTokenMask, resultDType, type TokenMaskOption } from "../check.js";

/** A mean over the tokens of each sequence that count, and the number of these tokens, [S] i32. */
export interface CountedMean extends Disposable {
  readonly mean: Tensor<"f32">;
  readonly counts: Tensor<"i32">;
}

export interface CountedMeanOptions extends TokenMaskOption {
  /** S; default 1. */
  sequences?: number;
}

/** The mean scores [S, E] f32 of logits [T, E] over each sequence. */
export function meanScores(
  logits: Tensor<FloatDType>,
  { scoring, normalize }: { scoring: ExpertScoring; normalize: boolean },
  options: CountedMeanOptions,
): CountedMean {
  using scores = logits.device.empty(logits.shape, resultDType(logits));
  logits.device.backend.routerScores({ logits: logits.handle, scores: scores.handle, scoring, normalize });
  return countedMean(scores, false, options);
}

/** The mean [S, 1] f32, over the tokens of logits [T, E], of the entropy or of the square of ln Σ exp. */
export function tokenMean(
  logits: Tensor<FloatDType>,
  of: "entropy" | "squaredLogSumExp",
  options: CountedMeanOptions,
): CountedMean {
  const tokens = logits.shape[0] as number;
  using values = logits.device.empty([tokens], resultDType(logits));
  logits.device.backend.routerScores({
    logits: logits.handle,
    ...(of === "entropy" ? { entropy: values.handle } : { logSumExp: values.handle }),
    scoring: "softmax",
    normalize: false,
  });
  using column = values.reshape([tokens, 1]);
  return countedMean(column, of === "squaredLogSumExp", options);
}

function countedMean(values: Tensor<"f32">, square: boolean, options: CountedMeanOptions): CountedMean {
  const { sequences = 1, tokenMask } = options;
  const { device } = values;
  const [rows, columns] = values.shape as [number, number];
  const mask = checkTokenMask(tokenMask, rows, device);
  using made = new Made();
  const mean = made.own(device.empty([sequences, columns], values.dtype));
  const counts = made.own(device.empty([sequences], "i32"));
  device.backend.columnMeans({
    values: values.handle,
    tokenMask: mask,
    means: mean.handle,
    counts: counts.handle,
    square,
    total: false,
  });
  return made.returned({
    mean,
    counts,
    [Symbol.dispose]() {
      mean.dispose();
      counts.dispose();
    },
  });
}

/** How many tokens of each sequence count, [S] i32: the counts of a mean of nothing. */
export function tokenCounts(
  device: Device,
  tokens: number,
  { sequences = 1, tokenMask }: Pick<CountedMeanOptions, "sequences" | "tokenMask">,
): Tensor<"i32"> {
  using nothing = device.empty([tokens, 0], "f32");
  const { mean, counts } = countedMean(nothing, false, { sequences, tokenMask });
  mean.dispose();
  return counts;
}
