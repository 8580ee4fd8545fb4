import type { FloatDType } from "../../core/dtype.js";
import { cannotCombine, requires, unexpected } from "../../core/errors.js";
import type { Tensor } from "../../core/tensor.js";
import { checkTensor } from "../../operators/check.js";
import type { Routing } from "../../operators/routing/gating.js";
import type { MoeLayerDescription } from "../description/config.js";
import type { DeviceLayer } from "../device_layer.js";

// What a caller may give of a routing: all of it, or the experts, which the layer's router then weighs.

/** Checks a routing that is given for `count` tokens of `dtype`. */
export function checkRouting(
  { device }: DeviceLayer,
  { ids, weights }: Routing,
  count: number,
  dtype: FloatDType,
): void {
  checkTensor("routing.ids", ids, ["i32"], [count, "k"], device);
  checkTensor("routing.weights", weights, dtype === "f64" ? ["f32", "f64"] : ["f32"], ids.shape, device);
  if (ids.shape[1] === 0) throw unexpected("routing", "at least one choice per token", "k = 0");
}

/**
 * Checks the experts [T, k] that are given for `count` tokens.
 * @param routing what else may have them.
 */
export function checkExpertIds(
  { description, device }: DeviceLayer,
  expertIds: Tensor<"i32">,
  count: number,
  routing?: Routing,
): void {
  checkTakesExpertIds(description);
  if (routing !== undefined) throw cannotCombine("expertIds", "routing");
  checkTensor("expertIds", expertIds, ["i32"], [count, description.topK], device);
}

/** Refuses a layer whose rule gives no weights to experts that it did not choose. */
export function checkTakesExpertIds({ hierarchy, expertChoice }: MoeLayerDescription): void {
  for (const [name, other] of Object.entries({ hierarchy, expertChoice })) {
    if (other !== undefined) throw requires("expertIds", `a layer without ${name}`);
  }
}
