import { type Fields, object, optional } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, output, resultDType } from "../check.js";
import { keptWeights, type Renormalize, renormalizeOption } from "./capacity.js";
import { type Routing, routingRecord } from "./gating.js";
import { choiceRecord } from "./gating_backward.js";

/** Options of {@link limitCapacityBackward}. */
export interface LimitCapacityBackwardOptions {
  /** How kept weights were renormalised; default not at all. */
  renormalize?: boolean | Renormalize | undefined;
  /** Where to write, [T, k] f32; default a new tensor. */
  out?: Tensor<"f32"> | undefined;
}

const backwardOptions = object(
  { renormalize: renormalizeOption, out: optional(tensor<"f32">()) } satisfies Fields<LimitCapacityBackwardOptions>,
  "{ renormalize: true }",
);

/**
 * The gradient of {@link limitCapacity}: that of the weights before choices were dropped, from dKeptWeights, with what was
 * kept held fixed. Without renormalisation it is dKeptWeights for kept choices and 0 for dropped ones. With weights wⱼ,
 * gradients gⱼ (0 for dropped choices) and a sum S ≠ 0 over the kept or chosen weights, the weights in S get scale / S ·
 * (gⱼ - Σᵢ gᵢ wᵢ / S).
 *
 * {@link gatingBackward} takes the result together with the ids before the drop, on which its normalisation depends. For a
 * gate that does not normalise (and is not softmax_selected or sparsemixer), the kept ids and dKeptWeights give the same
 * at once.
 *
 * @param routing what limitCapacity took: ids [T, k] i32 and weights [T, k] f32.
 * @param kept what it returned, or anything with its `ids` [T, k] i32.
 * @param dKeptWeights [T, k] f32; not read where the kept id is -1.
 * @returns dWeights [T, k] f32.
 * @throws INVALID_ARGUMENT, SHAPE_MISMATCH, UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function limitCapacityBackward(
  routing: Routing,
  kept: Pick<Routing, "ids">,
  dKeptWeights: Tensor<"f32">,
  options: LimitCapacityBackwardOptions = {},
): Tensor<"f32"> {
  const { ids, weights } = routingRecord(routing, "routing");
  checkTensor("routing.ids", ids, ["i32"], ["T", "k"]);
  const { device, shape } = ids;
  checkTensor("routing.weights", weights, "float32", shape, device);
  const { ids: keptIds } = choiceRecord(kept, "kept");
  checkTensor("kept.ids", keptIds, ["i32"], shape, device);
  const dtype = resultDType(weights);
  checkTensor("dKeptWeights", dKeptWeights, [dtype], shape, device);
  const { renormalize, out } = backwardOptions(options, "options");
  const dWeights = output("out", out, device, shape, dtype, [ids, weights, keptIds, dKeptWeights]);
  device.backend.limitCapacityBackward({
    ids: ids.handle,
    weights: weights.handle,
    keptIds: keptIds.handle,
    dKeptWeights: dKeptWeights.handle,
    dWeights: dWeights.handle,
    ...keptWeights(renormalize),
  });
  return dWeights;
}
