import { choice, type Fields, object, optional } from "../../core/input/options.js";
import { type ExpertScoring, expertScorings } from "../../core/layer/routing_rule.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor } from "../check.js";
import type { Routing } from "./gating.js";
import { gatingBackward } from "./gating_backward.js";

/** Options of {@link expertChoiceBackward}. */
export interface ExpertChoiceBackwardOptions {
  /** How logits became scores: `softmax` (default) or `sigmoid`. */
  scoring?: ExpertScoring | undefined;
  /** Where to write, [T, E] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  {
    scoring: optional(choice(expertScorings), "softmax"),
    out: optional(tensor<"f32">()),
  } satisfies Fields<ExpertChoiceBackwardOptions>,
  '{ scoring: "softmax" }',
);

/**
 * The gradient of {@link expertChoice}: dLogits from dWeights, the gradient of a loss by the `weights` [T, E], with what
 * the experts took held fixed. The same as {@link gatingBackward} of a gate of E choices without normalisation: a
 * weight is a score, and a token that an expert did not take gets nothing from it.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @param routing expertChoice's result, or anything with its `ids` [T, E] i32.
 * @param dWeights [T, E] f32; not read where the id is -1.
 * @returns dLogits [T, E] f32.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function expertChoiceBackward(
  logits: Tensor<FloatDType>,
  routing: Pick<Routing, "ids">,
  dWeights: Tensor<"f32">,
  options: ExpertChoiceBackwardOptions = {},
): Tensor<"f32"> {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { scoring, out } = backwardOptions(options, "options");
  return gatingBackward(logits, routing, dWeights, {
    topK: logits.shape[1] as number,
    scoring,
    ...(out !== undefined && { out }),
  });
}
