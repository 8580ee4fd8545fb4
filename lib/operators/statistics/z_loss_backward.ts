import { finite, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, checkTokenMask, resultDType, type TokenMaskOption, tokenMaskField } from "../check.js";
import { Outputs } from "../outputs.js";
import { tokenCounts } from "./mean_scores.js";

/** Options of {@link zLossBackward}. */
export interface ZLossBackwardOptions extends TokenMaskOption {
  /** The gradient of the whole loss by this one, such as its coefficient; default 1. */
  factor?: number | undefined;
  /** Where to write, [T, E] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  { ...tokenMaskField, factor: optional(finite, 1), out: optional(tensor<"f32">()) },
  "{ factor: 0.001 }",
);

/**
 * The gradient of {@link zLoss} by the logits: factor · 2 · L / n · softmax(logits) for each of the n tokens that count,
 * where L = ln Σₑ exp(logitₑ), and 0 for the others. A logit that is not finite gets 0.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @returns dLogits [T, E] f32.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function zLossBackward(logits: Tensor<FloatDType>, options: ZLossBackwardOptions = {}): Tensor<"f32"> {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { factor, tokenMask, out } = backwardOptions(options, "options");
  const { device, shape } = logits;
  const tokens = shape[0] as number;
  const mask = checkTokenMask(tokenMask, tokens, device);
  const dtype = resultDType(logits);
  using outputs = new Outputs(device, [logits, tokenMask]);
  const dLogits = outputs.next("out", out, shape, dtype);
  if (dLogits.size === 0) return outputs.returned(dLogits);
  const scoring = "softmax";
  using counts = tokenCounts(device, tokens, { tokenMask });
  using logSumExp = device.empty([tokens], dtype);
  device.backend.routerScores({ logits: logits.handle, logSumExp: logSumExp.handle, scoring, normalize: false });
  using dMean = device.tensor([factor], [1, 1], dtype);
  using dLogSumExp = device.empty([tokens], dtype);
  using column = logSumExp.reshape([tokens, 1]);
  using dColumn = dLogSumExp.reshape([tokens, 1]);
  device.backend.columnMeansBackward({
    dMeans: dMean.handle,
    counts: counts.handle,
    values: column.handle,
    tokenMask: mask,
    dValues: dColumn.handle,
  });
  device.backend.routerScoresBackward({
    logits: logits.handle,
    dLogSumExp: dLogSumExp.handle,
    dLogits: dLogits.handle,
    scoring,
    normalize: false,
  });
  return outputs.returned(dLogits);
}
