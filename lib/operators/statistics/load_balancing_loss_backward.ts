import { finite, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTokenMask, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";
import { expertTotals } from "./expert_totals.js";
import { checkLoss, type LoadBalancingLossOptions, lossFields } from "./load_balancing_loss.js";
import { tokenCounts } from "./mean_scores.js";

/** Options of {@link loadBalancingLossBackward}. */
export interface LoadBalancingLossBackwardOptions extends LoadBalancingLossOptions {
  /** The gradient of the whole loss by this one, such as its coefficient; default 1. */
  factor?: number | undefined;
  /** Where to write, [T, E] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  { ...lossFields, factor: optional(finite, 1), out: optional(tensor<"f32">()) },
  "{ factor: 0.01 }",
);

/**
 * The gradient of {@link loadBalancingLoss} by the logits, with the experts' shares of choices held constant: through
 * the mean scores alone, as in all sources of the loss. The mean score of expert e in a sequence has the gradient
 * factor · E · fₑ / the number of sequences that count; that goes through the mean and the scores as
 * {@link routerScoresBackward} does it.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @param ids [T, k] i32.
 * @param options those of the loss.
 * @returns dLogits [T, E] f32; 0 for tokens that do not count.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function loadBalancingLossBackward(
  logits: Tensor<FloatDType>,
  ids: Tensor<"i32">,
  options: LoadBalancingLossBackwardOptions = {},
): Tensor<"f32"> {
  const given = checkLoss(logits, ids, backwardOptions, options);
  const { scoring, sequences, tokenMask, numExperts, counted, scale, factor, out } = given;
  const { device, shape } = logits;
  const mask = checkTokenMask(tokenMask, shape[0] as number, device);
  const dtype = resultDType(logits);
  using outputs = new Outputs(device, [logits, ids, tokenMask]);
  const dLogits = outputs.next("out", out, shape, dtype);
  if (dLogits.size === 0) return outputs.returned(dLogits);
  using counts = tokenCounts(device, shape[0] as number, { sequences, tokenMask });
  const totals = expertTotals(ids, { numExperts, sequences, choices: counted, tokenMask });
  using tokens = totals.tokens;
  totals.dropped.dispose();
  using dMeans = device.empty([sequences, numExperts], dtype);
  device.backend.balanceLossBackward({
    tokens: tokens.handle,
    counts: counts.handle,
    dMeans: dMeans.handle,
    scale: factor * scale,
  });
  using dScores = device.empty(shape, dtype);
  device.backend.columnMeansBackward({
    dMeans: dMeans.handle,
    counts: counts.handle,
    tokenMask: mask,
    dValues: dScores.handle,
  });
  device.backend.routerScoresBackward({
    logits: logits.handle,
    dScores: dScores.handle,
    dLogits: dLogits.handle,
    scoring,
    normalize: scoring === "sigmoid",
  });
  return outputs.returned(dLogits);
}
