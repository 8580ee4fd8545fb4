import { cannotCombine, requires, unexpected } from "../../core/errors.js";
import type { Tensor } from "../../core/tensors/tensor.js";
import { checkTensor, float32Beside } from "../../operators/check.js";
import type { Routing } from "../../operators/routing/gating.js";
import type { MoeLayerDescription } from "../description/config.js";
import type { DeviceLayer } from "../device_layer.js";
import type { Tokens } from "./tokens.js";

// What a caller may give of a routing: all of it, the experts, which the layer's router then weighs, or the logits.

/** Checks a routing that is given for tokens. */
export function checkRouting({ device }: Pick<DeviceLayer, "device">, { ids, weights }: Routing, tokens: Tokens): void {
  checkTensor("routing.ids", ids, ["i32"], [tokens.count, "k"], device);
  checkTensor("routing.weights", weights, float32Beside(tokens), ids.shape, device);
  if (ids.shape[1] === 0) throw unexpected("routing", "at least one choice per token", "k = 0");
}

/**
 * Checks the experts [T, k] that are given for tokens.
 * @param routing what else may have them.
 */
export function checkExpertIds(
  { description, device }: DeviceLayer,
  expertIds: Tensor<"i32">,
  { count }: Tokens,
  routing?: Routing,
): void {
  checkTakesExpertIds(description);
  if (routing !== undefined) throw cannotCombine("expertIds", "routing");
  checkTensor("expertIds", expertIds, ["i32"], [count, description.topK], device);
}

/**
 * Checks the logits [T, E] that are given for tokens.
 * @param others what may not be given too, by name.
 */
export function checkLogits(
  { description, device }: DeviceLayer,
  logits: Tensor<"f32">,
  tokens: Tokens,
  others: Readonly<Record<string, unknown>>,
): void {
  checkTakesLogits(description);
  for (const [name, other] of Object.entries(others)) {
    if (other !== undefined && other !== false) throw cannotCombine("logits", name);
  }
  checkTensor("logits", logits, float32Beside(tokens), [tokens.count, description.numExperts], device);
}

/** Refuses a layer with more logits than those of its experts. */
export function checkTakesLogits({ hierarchy }: MoeLayerDescription): void {
  if (hierarchy !== undefined) throw requires("logits", "a layer without hierarchy");
}

/** Refuses a layer whose rule gives no weights to experts that it did not choose. */
export function checkTakesExpertIds({ hierarchy, expertChoice }: MoeLayerDescription): void {
  for (const [name, other] of Object.entries({ hierarchy, expertChoice })) {
    if (other !== undefined) throw requires("expertIds", `a layer without ${name}`);
  }
}
