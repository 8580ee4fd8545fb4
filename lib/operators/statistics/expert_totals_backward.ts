import { checkInteger } from "../../core/errors.js";
import { type Fields, object, optional, unchecked } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import {
  checkIds,
  checkSequences,
  checkTensor,
  checkTokenMask,
  output,
  resultDType,
  type TokenMaskOption,
  tokenMaskField,
} from "../check.js";

/** Options of {@link expertTotalsBackward}. */
export interface ExpertTotalsBackwardOptions extends TokenMaskOption {
  /** Only this many of each token's choices were counted, the first ones; default k. */
  choices?: number | undefined;
  /** Where to write, [T, k]; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  {
    choices: optional(unchecked),
    ...tokenMaskField,
    out: optional(tensor<"f32">()),
  } satisfies Fields<ExpertTotalsBackwardOptions>,
  "{ choices: 1 }",
);

/**
 * The gradient of {@link expertTotals}' sums of weights, such as the importance of experts: dWeights[t, j] is that of the
 * sum of its sequence's expert ids[t, j], and 0 for choices that do not count. Counts of tokens have no gradient.
 *
 * @param ids [T, k] i32, as expertTotals took them.
 * @param dWeightSums [S, E] f32, for S sequences of equal length.
 * @returns dWeights [T, k] f32.
 * @throws INVALID_ARGUMENT (choices, T*k >= 2^31, S does not divide T), SHAPE_MISMATCH, UNSUPPORTED_DTYPE,
 * DEVICE_MISMATCH, DISPOSED. An id out of range is treated as -1 and reported as ID_OUT_OF_RANGE at the next wait.
 */
export function expertTotalsBackward(
  ids: Tensor<"i32">,
  dWeightSums: Tensor<"f32">,
  options: ExpertTotalsBackwardOptions = {},
): Tensor<"f32"> {
  checkIds("ids", ids);
  const { device, shape } = ids;
  const [tokens, topK] = shape as [number, number];
  checkTensor("dWeightSums", dWeightSums, "float32", ["S", "E"], device);
  const { choices = topK, tokenMask, out } = backwardOptions(options, "options");
  const sequences = dWeightSums.shape[0];
  checkSequences(sequences, tokens);
  checkInteger("choices", choices, 0, topK);
  const mask = checkTokenMask(tokenMask, tokens, device);
  const dWeights = output("out", out, device, shape, resultDType(dWeightSums), [ids, dWeightSums, tokenMask]);
  device.backend.expertTotalsBackward({
    ids: ids.handle,
    tokenMask: mask,
    dSums: dWeightSums.handle,
    dWeights: dWeights.handle,
    choices,
  });
  return dWeights;
}
