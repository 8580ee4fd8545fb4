import { type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkExpertCount, checkTensor, output, resultDType } from "../check.js";
import type { Routing } from "./gating.js";
import { checkGating, type GatingRuleOptions, gatingFields } from "./gating_options.js";

/** Options of {@link gatingBackward}. */
export interface GatingBackwardOptions extends GatingRuleOptions {
  /** Where to write, [T, E] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  { ...gatingFields, out: optional(tensor<"f32">()) } satisfies Fields<GatingBackwardOptions>,
  "{ topK: 2 }",
);

/** The ids of a routing that the user passes. */
export const choiceRecord = results({ ids: tensor<"i32">() });

/**
 * The gradient of {@link gating}: dLogits from dWeights, the gradient of a loss by the weights. Which experts were
 * chosen is held fixed, so keys, groups and a selection bias have no gradient. A choice of id -1 does not exist: its
 * dWeight is not read, and normalisation is over the others.
 *
 * With scores sᵢ of the chosen experts, their weights wᵢ = scale · sᵢ / D and gᵢ = dWeightsᵢ,
 * dsᵢ = scale / D · (gᵢ - (Σⱼ gⱼ sⱼ / D) · ∂D/∂sᵢ), where ∂D/∂sᵢ is 0 for `none`, 1 for the sums (0 for a clamped one
 * that is at epsilon) and (sᵢ / D)^(p-1) for the norm. Then dLogits = p · (ds - Σ p ds) for a softmax p over all experts
 * or the chosen ones, and the score's derivative times ds for the others.
 *
 * `sparsemixer` has the estimator of Phi-3.5-MoE (arXiv 2409.12136, by Heun's third-order method), not a derivative:
 * what is chosen and what is near the best counts as fixed, ids may be sampled, and if the training multiplies a weight
 * π of an expert that is not the best by 1/3 (at random, three times in four), the gradient leaves that factor out:
 * dLogits = Σ gᵢ πᵢ (eᵢ - π) over the slots, gᵢ the gradient of the multiplied weight and π the slot's softmax.
 *
 * Computed in float32. A logit that is not finite gets gradient 0, as do all of a row whose weights are 0 because there
 * is no finite one or the divisor is 0. NaN in dWeights stays in its row.
 *
 * @param logits [T, E] f32, f16 or bf16, as gating took them.
 * @param routing gating's result, or anything with its `ids` [T, k] i32; weights are not read. If choices were dropped
 * since, see {@link limitCapacityBackward}. An id out of range is treated as -1 and reported as ID_OUT_OF_RANGE at the
 * next wait.
 * @param dWeights [T, k] f32.
 * @param options the rule that gating took.
 * @returns dLogits [T, E] f32.
 * @throws INVALID_ARGUMENT (an option out of its range, or overlapping `out`), SHAPE_MISMATCH, UNSUPPORTED_DTYPE,
 * DEVICE_MISMATCH, DISPOSED.
 */
export function gatingBackward(
  logits: Tensor<FloatDType>,
  routing: Pick<Routing, "ids">,
  dWeights: Tensor<"f32">,
  options: GatingBackwardOptions,
): Tensor<"f32"> {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { device } = logits;
  const { ids } = choiceRecord(routing, "routing");
  const given = backwardOptions(options, "options");
  const { out } = given;
  const [tokens, experts] = logits.shape as [number, number];
  checkExpertCount("logits", experts);
  const rule = checkGating(given, experts);
  const dtype = resultDType(logits);
  checkTensor("routing.ids", ids, ["i32"], [tokens, rule.topK], device);
  checkTensor("dWeights", dWeights, [dtype], [tokens, rule.topK], device);
  const dLogits = output("out", out, device, logits.shape, dtype, [logits, ids, dWeights]);
  device.backend.gatingBackward({
    logits: logits.handle,
    ids: ids.handle,
    dWeights: dWeights.handle,
    dLogits: dLogits.handle,
    rule,
  });
  return dLogits;
}
