import { type Fields, integer, object, optional } from "../../core/input/options.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { tensor } from "../../core/tensors/tensor_option.js";
import { checkIds, expertCount, output } from "../check.js";

/** Options of {@link expertSlots}. */
export interface ExpertSlotsOptions {
  /** E. */
  numExperts: number;
  /** C, slots of an expert. */
  capacity: number;
  /** Where to write; default a new tensor. */
  out?: Tensor<"i32"> | undefined;
}

const slotsOptions = object(
  {
    numExperts: expertCount,
    capacity: integer(0, 2 ** 31 - 1),
    out: optional(tensor<"i32">()),
  } satisfies Fields<ExpertSlotsOptions>,
  "{ numExperts: 8, capacity: 64 }",
);

/**
 * The slots of every expert, padded to capacity: row e holds token * k + j for the choices of expert e, in order of
 * token, then slot, followed by -1. Choices beyond the C-th are left out; {@link limitCapacity} decides which to drop.
 *
 * @param ids [T, k] i32, each -1 (no expert) or 0 .. E-1. Any other id is treated as -1 and reported as ID_OUT_OF_RANGE
 * at the next wait.
 * @returns [E, C] i32.
 * @throws INVALID_ARGUMENT (an option out of its range, T*k >= 2^31, overlapping `out`), SHAPE_MISMATCH,
 * UNSUPPORTED_DTYPE, DEVICE_MISMATCH, DISPOSED, OUT_OF_MEMORY.
 */
export function expertSlots(ids: Tensor<"i32">, options: ExpertSlotsOptions): Tensor<"i32"> {
  checkIds("ids", ids);
  const { numExperts, capacity, out } = slotsOptions(options, "options");
  const slots = output("out", out, ids.device, [numExperts, capacity], "i32", [ids]);
  ids.device.backend.expertSlots({ ids: ids.handle, slots: slots.handle });
  return slots;
}
