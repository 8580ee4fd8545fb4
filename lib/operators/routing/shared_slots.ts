import type { Device } from "../../core/device/device.js";
import { invalidArgument } from "../../core/errors.js";
import { type Fields, integer, object, optional } from "../../core/input/options.js";
import { checkBank, type ExpertRange } from "../../core/layer/expert_range.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkTensor, expertCount } from "../check.js";
import { Outputs } from "../outputs.js";
import { type Routing, routingRecord } from "./gating.js";

/** Options of {@link sharedSlots}. */
export interface SharedSlotsOptions {
  /** E, the experts that ids count. */
  numExperts: number;
  /** Shared experts, each with a slot of every token. */
  sharedExperts: number;
  /** The experts that ids of slots count, from the first of them on; a `count` of 0 leaves the shared ones. Default all. */
  bank?: ExpertRange | undefined;
  /** [T, 1] f32, whose sigmoid weighs the shared experts, or [T, 2], whose softmax weighs the others and them. */
  gate?: Tensor<"f32"> | undefined;
  /** Where to write, [T, k + sharedExperts]; default new tensors. */
  out?: Routing | undefined;
}

export const sharedExpertCount = integer(0, 2 ** 31 - 2);

const heldBank = object(
  { first: integer(0), count: integer(0) } satisfies Fields<ExpertRange>,
  "{ first: 0, count: 8 }",
);

const slotsOptions = object(
  {
    numExperts: expertCount,
    sharedExperts: sharedExpertCount,
    bank: optional(heldBank),
    gate: optional(tensor<"f32">()),
    out: optional(routingRecord),
  } satisfies Fields<SharedSlotsOptions>,
  "{ numExperts: 8, sharedExperts: 1 }",
);

/** Checks an optional gate of shared experts, [T, 1] or [T, 2] of this dtype. */
export function checkSharedGate(gate: Tensor<"f32"> | undefined, tokens: number, dtype: "f32", device: Device): void {
  if (gate === undefined) return;
  checkTensor("gate", gate, [dtype], [tokens, "G"], device);
  const outputs = gate.shape[1] as number;
  if (outputs === 1 || outputs === 2) return;
  throw invalidArgument("gate", "1 column for a sigmoid or 2 for a softmax", outputs);
}

/**
 * Every token's slots in a layer with shared experts: its k choices, then the shared experts, as {@link sort} and
 * {@link combine} take them. A layer's forward does the same before it sorts.
 *
 * Experts of the bank are numbered from its first one, and choices of others become -1; shared expert j has id
 * bank.count + j. Without a gate, weights of choices stay and shared experts weigh 1. With a gate of one column they
 * weigh σ(gate) (Qwen2-MoE). With two columns and p = softmax(gate), choices weigh p₀ times their weights and shared
 * experts p₁ (residual MoE of DeepSpeed, arXiv 2201.05596). In a softmax NaN counts as -Infinity.
 *
 * @param ids [T, k] i32, each -1 or 0 .. E-1. Any other id becomes -1 and is ID_OUT_OF_RANGE at the next wait.
 * @param weights [T, k] f32.
 * @returns ids [T, k + sharedExperts] i32 and weights [T, k + sharedExperts] f32.
 * @throws INVALID_ARGUMENT (an option out of its range, 2^31 slots or more, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED.
 */
export function sharedSlots(ids: Tensor<"i32">, weights: Tensor<"f32">, options: SharedSlotsOptions): Routing {
  checkTensor("ids", ids, ["i32"], ["T", "k"]);
  const { device } = ids;
  checkTensor("weights", weights, "float32", ids.shape, device);
  const { dtype } = weights;
  const given = slotsOptions(options, "options");
  const { numExperts, sharedExperts, gate, out } = given;
  const bank = checkBank(given.bank, numExperts);
  const [tokens, topK] = ids.shape as [number, number];
  checkSharedGate(gate, tokens, dtype, device);
  const shape = [tokens, topK + sharedExperts];
  if (bank.count + sharedExperts >= 2 ** 31 - 1) {
    throw invalidArgument(
      "sharedExperts",
      `fewer than 2^31 - 1 experts beside the bank's ${bank.count}`,
      sharedExperts,
    );
  }
  if (tokens * (topK + sharedExperts) >= 2 ** 31) {
    throw invalidArgument("ids", "fewer than 2^31 (token, slot) pairs", tokens * (topK + sharedExperts));
  }
  using outputs = new Outputs(device, [ids, weights, gate]);
  const slotIds = outputs.next("out.ids", out?.ids, shape, "i32");
  const slotWeights = outputs.next("out.weights", out?.weights, shape, dtype);
  device.backend.sharedSlots({
    ids: ids.handle,
    weights: weights.handle,
    gate: gate?.handle,
    slotIds: slotIds.handle,
    slotWeights: slotWeights.handle,
    numExperts,
    bankFirst: bank.first,
    bankCount: bank.count,
    sharedExperts,
  });
  return outputs.returned({ ids: slotIds, weights: slotWeights });
}
