import { type Fields, object, optional } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkExpertCount, checkTensor, output, resultDType } from "../check.js";
import type { Routing } from "./gating.js";
import { choiceRecord } from "./gating_backward.js";
import { checkGating, type GatingRuleOptions, gatingFields } from "./gating_options.js";

/** Options of {@link gatingWeights}. */
export interface GatingWeightsOptions extends GatingRuleOptions {
  /** Where to write, [T, k] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const weightsOptions = object(
  { ...gatingFields, out: optional(tensor<"f32">()) } satisfies Fields<GatingWeightsOptions>,
  "{ topK: 2 }",
);

/**
 * The weights that {@link gating} would give to choices which were made elsewhere, such as by a table of token ids
 * ({@link lookUpExperts}) or by another run of the model: the scores at these ids, normalised and scaled.
 * {@link gatingBackward} is its gradient too.
 *
 * Nothing is chosen, so what the rule says of the choice alone (groups, selectionKey) plays no part, and there is no
 * selection bias. A choice of id -1 does not exist: its weight is 0, and normalisation is over the others. An id that is
 * there twice counts twice. Under `sparsemixer`, a slot's softmax is over the experts near the best of those that the slots
 * before it left, wherever its own is: that of an expert far from it, or taken by a slot before, is 0.
 *
 * Computed in float32. A row without any finite logit has weights 0, and is counted in `device.warnings.nonFiniteLogitRows`.
 *
 * @param logits [T, E] f32, f16 or bf16.
 * @param routing anything with `ids` [T, k] i32; weights are not read. An id out of range is treated as -1 and reported as
 * ID_OUT_OF_RANGE at the next wait.
 * @param options the rule, as gating takes it.
 * @returns weights [T, k] f32.
 * @throws INVALID_ARGUMENT (an option out of its range, or overlapping `out`), SHAPE_MISMATCH, UNSUPPORTED_DTYPE,
 * DEVICE_MISMATCH, DISPOSED.
 */
export function gatingWeights(
  logits: Tensor<FloatDType>,
  routing: Pick<Routing, "ids">,
  options: GatingWeightsOptions,
): Tensor<"f32"> {
  checkTensor("logits", logits, "float", ["T", "E"]);
  const { device } = logits;
  const { ids } = choiceRecord(routing, "routing");
  const given = weightsOptions(options, "options");
  const [tokens, experts] = logits.shape as [number, number];
  checkExpertCount("logits", experts);
  const rule = checkGating(given, experts);
  checkTensor("routing.ids", ids, ["i32"], [tokens, rule.topK], device);
  const weights = output("out", given.out, device, [tokens, rule.topK], resultDType(logits), [logits, ids]);
  device.backend.gatingWeights({ logits: logits.handle, ids: ids.handle, weights: weights.handle, rule });
  return weights;
}
