import type { Device } from "../../core/device/device.js";
import { type Fields, finite, object, optional, type Read, type Reader } from "../../core/input/options.js";
import { withoutUndefined } from "../../core/input/without_undefined.js";
import type { Made } from "../../core/tensors/made.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkSequences, checkTokenMask, type TokenMaskOption, tokenMaskField } from "../../operators/check.js";
import {
  type LoadBalancingLossOptions,
  loadBalancingLoss,
  lossFields,
} from "../../operators/statistics/load_balancing_loss.js";
import { loadBalancingLossBackward } from "../../operators/statistics/load_balancing_loss_backward.js";
import { zLoss } from "../../operators/statistics/z_loss.js";
import { zLossBackward } from "../../operators/statistics/z_loss_backward.js";

/** A loss's share of the whole loss. */
export interface LossFactor {
  /** The coefficient that the loss has in the whole loss. */
  factor: number;
}

/** Losses of the router's logits that are part of the whole loss, each with its factor in it. */
export interface GradLosses {
  /** {@link loadBalancingLoss} of the logits (with the forward's noise) and of the ids before any are dropped. */
  loadBalancingLoss?: number | (LoadBalancingLossOptions & LossFactor) | undefined;
  /** {@link zLoss} of the same logits. */
  zLoss?: number | (TokenMaskOption & LossFactor) | undefined;
}

/** The losses that {@link GradLosses} asked for, without their factors; each undefined if it was not asked for. */
export interface LossValues {
  /** [1] f32 */
  readonly loadBalancingLoss: Tensor<"f32"> | undefined;
  /** [1] f32 */
  readonly zLoss: Tensor<"f32"> | undefined;
}

function withFactor<T>(options: Reader<T>): Reader<T> {
  return (value, name) => options(typeof value === "number" ? { factor: value } : value, name);
}

const lossesFields = {
  loadBalancingLoss: optional(withFactor(object({ ...lossFields, factor: finite }, "{ factor: 0.01 }"))),
  zLoss: optional(withFactor(object({ ...tokenMaskField, factor: finite }, "{ factor: 0.001 }"))),
} satisfies Fields<GradLosses>;
export const gradLossesOption = object(lossesFields, "{ loadBalancingLoss: 0.01 }");

/** A {@link GradLosses} after reading. */
export type ReadLosses = Read<typeof gradLossesOption>;

/** How many terms {@link addLosses} adds. */
export function lossTerms(losses: ReadLosses | undefined): number {
  return Object.values(losses ?? {}).filter((loss) => loss !== undefined).length;
}

/** Checks what depends on the layer's tokens. */
export function checkLosses({ loadBalancingLoss, zLoss }: ReadLosses, tokens: number, device: Device): void {
  const name = "gradLosses.loadBalancingLoss";
  if (loadBalancingLoss) checkSequences(loadBalancingLoss.sequences, tokens, `${name}.sequences`);
  checkTokenMask(loadBalancingLoss?.tokenMask, tokens, device, `${name}.tokenMask`);
  checkTokenMask(zLoss?.tokenMask, tokens, device, "gradLosses.zLoss.tokenMask");
}

/** Adds the gradients of losses to those of the logits [T, E], where `next` gives the place of each; returns the losses, also made. */
export function addLosses(
  losses: ReadLosses,
  logits: Tensor<"f32">,
  ids: Tensor<"i32">,
  made: Made,
  next: () => Tensor<"f32">,
): LossValues {
  let balance: Tensor<"f32"> | undefined;
  let z: Tensor<"f32"> | undefined;
  if (losses.loadBalancingLoss) {
    using out = next();
    const { factor, sequences: given, ...others } = withoutUndefined(losses.loadBalancingLoss);
    const options = { ...others, sequences: given as number };
    loadBalancingLossBackward(logits, ids, { ...options, factor, out });
    balance = made.own(loadBalancingLoss(logits, ids, options));
  }
  if (losses.zLoss) {
    using out = next();
    const { factor, ...options } = withoutUndefined(losses.zLoss);
    zLossBackward(logits, { ...options, factor, out });
    z = made.own(zLoss(logits, options));
  }
  return { loadBalancingLoss: balance, zLoss: z };
}
