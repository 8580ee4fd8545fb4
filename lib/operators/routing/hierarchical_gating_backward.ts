import { type Fields, object, optional, results } from "../../core/input/options.js";
import type { FloatDType } from "../../core/tensors/dtype.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, resultDType } from "../check.js";
import { Outputs } from "../outputs.js";
import type { Routing } from "./gating.js";
import { choiceRecord } from "./gating_backward.js";
import { gatingRule } from "./gating_options.js";
import { checkGates, type HierarchicalGatingOptions } from "./hierarchical_gating.js";

/** The gradients of both gates' logits. */
export interface HierarchicalGatingGradients {
  /** [T, G] f32 */
  readonly dGroupLogits: Tensor<"f32">;
  /** [T, E] f32 */
  readonly dLogits: Tensor<"f32">;
}

/** Options of {@link hierarchicalGatingBackward}. */
export interface HierarchicalGatingBackwardOptions extends Omit<HierarchicalGatingOptions, "out"> {
  /** Where to write; default new tensors. */
  out?: HierarchicalGatingGradients | undefined;
}

const backwardOptions = object(
  {
    groups: gatingRule,
    experts: gatingRule,
    out: optional(results({ dGroupLogits: tensor<"f32">(), dLogits: tensor<"f32">() })),
  } satisfies Fields<HierarchicalGatingBackwardOptions>,
  "{ groups: { topK: 1 }, experts: { topK: 2 } }",
);

/**
 * The gradients of {@link hierarchicalGating}, with what both gates chose held fixed. A weight is the product of its
 * group's weight and its expert's within the group; the gradients of these go through each gate as
 * {@link gatingBackward} does it. Logits of groups that were not chosen get 0.
 *
 * @param groupLogits [T, G] f32, f16 or bf16.
 * @param logits [T, E] f32, f16 or bf16.
 * @param routing hierarchicalGating's result, or anything with its `ids` [T, k1 * k2] i32; weights are not read. The k2
 * choices of a group stand beside each other. An id out of range is treated as -1, a choice that does not exist, and
 * reported as ID_OUT_OF_RANGE at the next wait.
 * @param dWeights [T, k1 * k2] f32.
 * @param options the rules that hierarchicalGating took.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function hierarchicalGatingBackward(
  groupLogits: Tensor<FloatDType>,
  logits: Tensor<FloatDType>,
  routing: Pick<Routing, "ids">,
  dWeights: Tensor<"f32">,
  options: HierarchicalGatingBackwardOptions,
): HierarchicalGatingGradients {
  checkTensor("groupLogits", groupLogits, "float", ["T", "G"]);
  const { device } = groupLogits;
  checkTensor("logits", logits, "float", [groupLogits.shape[0] as number, "E"], device);
  const { ids } = choiceRecord(routing, "routing");
  const given = backwardOptions(options, "options");
  const { out } = given;
  const { groups, experts } = checkGates(groupLogits, logits, given);
  const shape = [logits.shape[0] as number, groups.topK * experts.topK];
  const dtype = resultDType(logits);
  checkTensor("routing.ids", ids, ["i32"], shape, device);
  checkTensor("dWeights", dWeights, [dtype], shape, device);
  using outputs = new Outputs(device, [groupLogits, logits, ids, dWeights]);
  const dGroupLogits = outputs.next("out.dGroupLogits", out?.dGroupLogits, groupLogits.shape, dtype);
  const dLogits = outputs.next("out.dLogits", out?.dLogits, logits.shape, dtype);
  device.backend.hierarchicalGatingBackward({
    groupLogits: groupLogits.handle,
    logits: logits.handle,
    ids: ids.handle,
    dWeights: dWeights.handle,
    dGroupLogits: dGroupLogits.handle,
    dLogits: dLogits.handle,
    groups,
    experts,
  });
  return outputs.returned({ dGroupLogits, dLogits });
}
