import { isDeepStrictEqual } from "node:util";
import { withoutUndefined } from "../../core/input/without_undefined.js";
import type { Gating } from "../../core/layer/routing_rule.js";
import { activationOf } from "../../operators/experts/activation_options.js";
import type { Capacity, CapacityRule } from "../../operators/routing/capacity.js";
import type { GatingRuleOptions, Normalize } from "../../operators/routing/gating_options.js";
import type { MoeLayerConfig, MoeLayerDescription, SharedExpertConfig } from "./config.js";

/**
 * The configuration that describes a layer: {@link describeLayer} makes an equal description of it.
 * @param sharedWidth width of the shared expert; default that of the experts as which it is stored.
 */
export function configOf(description: MoeLayerDescription, sharedWidth?: number): MoeLayerConfig {
  const { hiddenSize, intermediateSize, numExperts, multiplier, outputActivation, weightOn } = description;
  const { hierarchy, capacity, expertChoice, noisy, routerJitter } = description;
  const { perExpertScale, identityExperts, separateRouterInput, routerNorm, latent, hashRouting } = description;
  const { selectionKey, ...rule } = ruleOf(description);
  const sharedExpert = sharedExpertOf(description, sharedWidth);
  return {
    hiddenSize,
    intermediateSize,
    numExperts,
    ...(identityExperts > 0 && { identityExperts }),
    ...rule,
    ...(hashRouting ? { hashRouting } : { selectionKey }),
    ...activationOf(description),
    multiplier,
    outputActivation,
    weightOn,
    ...(sharedExpert && { sharedExpert }),
    ...(latent && { latent: withoutUndefined(latent) }),
    ...(hierarchy && { hierarchy: { numGroups: hierarchy.numGroups, ...ruleOf(hierarchy.groups) } }),
    ...(capacity && { capacity: capacityOf(capacity) }),
    ...(expertChoice && { expertChoice: withoutUndefined(expertChoice) }),
    ...(perExpertScale && { perExpertScale }),
    ...(separateRouterInput && { separateRouterInput }),
    ...(routerNorm && { routerNorm }),
    ...(noisy && { noisy }),
    ...(routerJitter !== undefined && { routerJitter }),
  };
}

/** In a bank that begins with another expert than 0 only a softmax gate is left of the shared expert. */
function sharedExpertOf(
  { sharedExperts, sharedGate, intermediateSize, clamp, sharedClamp }: MoeLayerDescription,
  width = Math.max(1, sharedExperts) * intermediateSize,
): SharedExpertConfig | undefined {
  if (sharedExperts === 0 && sharedGate === "none") return undefined;
  const own = isDeepStrictEqual(clamp, sharedClamp) ? {} : { clamp: sharedClamp };
  return { intermediateSize: width, gate: sharedGate, ...own };
}

function ruleOf(gating: Gating): GatingRuleOptions {
  const { topK, scoring, selectionKey, numGroups, topGroups, groupScore, scale, jitter } = gating;
  const grouped = numGroups > 1 || groupScore !== "max";
  return {
    topK,
    scoring,
    selectionKey,
    ...(grouped && { groups: { count: numGroups, top: topGroups, score: groupScore } }),
    normalize: normalizeOf(gating),
    scale,
    ...(scoring === "sparsemixer" && { jitter }),
  };
}

function normalizeOf({ normalization: by, epsilon, power }: Gating): boolean | Normalize {
  switch (by) {
    case "none":
      return false;
    case "sum":
      return true;
    case "lp":
      return { by, power };
    default:
      return { by, epsilon };
  }
}

function capacityOf({ divisor, scale, ...rule }: CapacityRule): Capacity {
  return { ...withoutUndefined(rule), renormalize: divisor === "none" ? false : { by: divisor, scale } };
}
