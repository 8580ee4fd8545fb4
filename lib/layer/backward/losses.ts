import { type Fields, finite, object, optional, type Read, type Reader } from "../../core/input/options.js";
import { withoutUndefined } from "../../core/input/without_undefined.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { type TokenMaskOption, tokenMaskField } from "../../operators/check.js";
import { type LoadBalancingLossOptions, lossFields } from "../../operators/statistics/load_balancing_loss.js";
import { loadBalancingLossBackward } from "../../operators/statistics/load_balancing_loss_backward.js";
import { zLossBackward } from "../../operators/statistics/z_loss_backward.js";

/** A loss's share of the whole loss. */
export interface LossFactor {
  /** The coefficient that the loss has in the whole loss. */
  factor: number;
}

/** Losses of the router's logits that are part of the whole loss, each with its factor in it. */
export interface GradLosses {
  /** {@link loadBalancingLoss} of the logits and of the ids before any are dropped. */
  loadBalancingLoss?: number | (LoadBalancingLossOptions & LossFactor) | undefined;
  /** {@link zLoss} of the logits. */
  zLoss?: number | (TokenMaskOption & LossFactor) | undefined;
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

/** Adds the gradients of losses to those of the logits [T, E]; `next` gives the place of each. */
export function addLosses(
  losses: ReadLosses | undefined,
  logits: Tensor<"f32">,
  ids: Tensor<"i32">,
  next: () => Tensor<"f32">,
): void {
  if (losses?.loadBalancingLoss) {
    using out = next();
    const { sequences, ...options } = withoutUndefined(losses.loadBalancingLoss);
    loadBalancingLossBackward(logits, ids, { ...options, sequences: sequences as number, out });
  }
  if (losses?.zLoss) {
    using out = next();
    zLossBackward(logits, { ...withoutUndefined(losses.zLoss), out });
  }
}
