import { type Fields, object, optional, results } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkResult, checkTensor } from "../check.js";
import { Outputs } from "../outputs.js";
import { checkSharedGate, sharedExpertCount } from "./shared_slots.js";

/** The gradients of what {@link sharedSlots} takes. */
export interface SharedSlotsGradients {
  /** [T, k] f32 */
  readonly dWeights: Tensor<"f32">;
  /** [T, 1] or [T, 2] f32, if there is a gate. */
  readonly dGate?: Tensor<"f32">;
}

/** Options of {@link sharedSlotsBackward}. */
export interface SharedSlotsBackwardOptions {
  /** Shared experts. */
  sharedExperts: number;
  /** [T, 1] or [T, 2] f32, as {@link sharedSlots} took it. */
  gate?: Tensor<"f32"> | undefined;
  /** Where to write what is computed; default new tensors. */
  out?: SharedSlotsGradients | undefined;
}

const backwardOptions = object(
  {
    sharedExperts: sharedExpertCount,
    gate: optional(tensor<"f32">()),
    out: optional(results({ dWeights: tensor<"f32">(), dGate: optional(tensor<"f32">()) })),
  } satisfies Fields<SharedSlotsBackwardOptions>,
  "{ sharedExperts: 1 }",
);

/**
 * The gradients of {@link sharedSlots} by the weights of choices and by the gate, in float32: with g the gradients of the
 * slots' weights and s the sum of those of shared experts, dWeights = g of the choices. A sigmoid σ of the gate has
 * dGate = σ (1 - σ) s. A softmax p has dWeights = p₀ g and dGate = ± p₀ p₁ (Σⱼ weightsⱼ gⱼ - s).
 *
 * The slot of a choice outside of the bank adds nothing to the output, and so its g must be 0, as
 * {@link combineBackward} gives it for slots of -1.
 *
 * @param weights [T, k] f32, as {@link sharedSlots} took them.
 * @param dSlotWeights [T, k + sharedExperts] f32. NaN stays in its token.
 * @throws INVALID_ARGUMENT (an option out of its range, `out.dGate` without a gate or the reverse, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function sharedSlotsBackward(
  weights: Tensor<"f32">,
  dSlotWeights: Tensor<"f32">,
  options: SharedSlotsBackwardOptions & { gate: Tensor<"f32"> },
): Required<SharedSlotsGradients>;
export function sharedSlotsBackward(
  weights: Tensor<"f32">,
  dSlotWeights: Tensor<"f32">,
  options: SharedSlotsBackwardOptions,
): SharedSlotsGradients;
export function sharedSlotsBackward(
  weights: Tensor<"f32">,
  dSlotWeights: Tensor<"f32">,
  options: SharedSlotsBackwardOptions,
): SharedSlotsGradients {
  checkTensor("weights", weights, "float32", ["T", "k"]);
  const { device, dtype } = weights;
  const [tokens, topK] = weights.shape as [number, number];
  const { sharedExperts, gate, out } = backwardOptions(options, "options");
  checkTensor("dSlotWeights", dSlotWeights, [dtype], [tokens, topK + sharedExperts], device);
  checkSharedGate(gate, tokens, dtype, device);
  checkResult(out, "dGate", gate !== undefined, "gate");
  using outputs = new Outputs(device, [weights, dSlotWeights, gate]);
  const dWeights = outputs.next("out.dWeights", out?.dWeights, weights.shape, dtype);
  const dGate = gate && outputs.next("out.dGate", out?.dGate, gate.shape, dtype);
  device.backend.sharedSlotsBackward({
    weights: weights.handle,
    gate: gate?.handle,
    dSlotWeights: dSlotWeights.handle,
    dWeights: dWeights.handle,
    dGate: dGate?.handle,
  });
  return outputs.returned({ dWeights, ...(dGate && { dGate }) });
}
