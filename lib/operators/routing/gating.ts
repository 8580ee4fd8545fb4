import { type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkExpertCount, checkOptional, checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";
import { checkGating, checkSelectionBias, type GatingRuleOptions, gatingFields } from "./gating_options.js";

/** The experts of every token and their weights. */
export interface Routing {
  /** [T, k] i32, each row in descending order of the key of the choice; -1 is no expert. */
  readonly ids: Tensor<"i32">;
  /** [T, k] f32, what each chosen expert's output is multiplied by. */
  readonly weights: Tensor<"f32">;
}

/** Options of {@link gating}. */
export interface GatingOptions extends GatingRuleOptions {
  /** [E], added to the keys by which experts are chosen, never to the weights. */
  selectionBias?: Tensor<FloatDType> | undefined;
  /** Where to write; default new tensors. */
  out?: Routing | undefined;
}

/** A routing that the user passes. */
export const routingRecord = results({ ids: tensor<"i32">(), weights: tensor<"f32">() });

const gatingOptions = object(
  {
    ...gatingFields,
    selectionBias: optional(tensor<FloatDType>()),
    out: optional(routingRecord),
  } satisfies Fields<GatingOptions>,
  "{ topK: 2 }",
);

/**
 * Gating and top-k: for every token, the k experts with the largest keys, and their weights. The key is the score or
 * the logit, plus the selection bias; with groups, only experts of the best groups can be chosen. The weights are the
 * chosen scores, without the bias, normalised and scaled.
 *
 * Computed in float32. Ties go to the lower id, of an expert or a group. A NaN logit ranks below everything and has
 * weight 0. Under a softmax, +Infinity takes all the weight (shared equally if there are several). If the score is the
 * logit or its `sqrt_softplus`, an infinite logit counts as the largest float32, and groups with several such keys can
 * tie. A row without any finite logit still gets k distinct ids, with weight 0 even for +Infinity, and is counted in
 * `device.warnings.nonFiniteLogitRows`.
 *
 * Formulas: Mixtral (softmax, normalize), OLMoE (softmax), Qwen3-MoE (softmax, either), gpt-oss (softmax_selected),
 * DeepSeek-V3 (arXiv 2412.19437: sigmoid, selection bias, groups by top2_sum, normalize, scale), DeepSeek-V2 (softmax,
 * groups by max, scale), Llama-4 (sigmoid chosen by logit), Phi-3.5-MoE (arXiv 2409.12136: sparsemixer), DBRX (softmax,
 * L^p norm).
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @throws INVALID_ARGUMENT (an option out of its range, or options that make no sense together), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function gating(logits: Tensor<FloatDType>, options: GatingOptions): Routing {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { device } = logits;
  const given = gatingOptions(options, "options");
  const { selectionBias: bias, out } = given;
  const [tokens, experts] = logits.shape as [number, number];
  checkExpertCount("logits", experts);
  const rule = checkGating(given, experts);
  checkOptional("selectionBias", bias, "float", [experts], device);
  checkSelectionBias(bias, rule.scoring);
  const shape = [tokens, rule.topK];
  const dtype = resultDType(logits);
  using outputs = new Outputs(device, [logits, bias]);
  const ids = outputs.next("out.ids", out?.ids, shape, "i32");
  const weights = outputs.next("out.weights", out?.weights, shape, dtype);
  device.backend.gating({
    logits: logits.handle,
    selectionBias: bias?.handle,
    ids: ids.handle,
    weights: weights.handle,
    rule,
  });
  return outputs.returned({ ids, weights });
}
