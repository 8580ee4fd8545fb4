import { describe } from "../../core/errors.js";
import type { ClampedActivation } from "../../core/layer/activation.js";
import type { MoeLayerConfig, SharedExpertConfig } from "../../layer/description/config.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { ConfigFields } from "../config_fields.js";
import { gatedActivation } from "./family.js";

/** The limits of a layer's experts, and of its shared expert; undefined for none. */
export interface Limits {
  readonly routed: number | undefined;
  readonly shared: number | undefined;
}

/** The activation of a layer's experts, and what its shared expert has apart from it. */
export interface ExpertActivations {
  readonly experts: Pick<MoeLayerConfig, "activation" | "clamp">;
  readonly shared: Pick<SharedExpertConfig, "clamp">;
}

/** SwiGLU with limits. A layer of which only the shared expert, or only the others, has one has infinity for the rest. */
export function limitedSwiglu(activation: ClampedActivation, { routed, shared }: Limits): ExpertActivations {
  if (routed === undefined && shared === undefined) return { experts: { activation: "swiglu" }, shared: {} };
  const clamp = (limit = Number.POSITIVE_INFINITY) => ({ alpha: 1, limit, offset: 0 });
  return {
    experts: { activation, clamp: clamp(routed) },
    shared: shared === routed ? {} : { clamp: clamp(shared) },
  };
}

/**
 * A gated activation whose inputs `swiglu_limit` clamps, if it is more than 0: DeepSeek-V4's, and Hy4's, whose shared expert
 * has no limit.
 */
export function limitedInputs(fields: ConfigFields, fallback: number, limitsShared = true): ExpertActivations {
  const limit = fields.isNull("swiglu_limit") ? 0 : fields.number("swiglu_limit", fallback);
  if (limit <= 0) return { experts: { activation: gatedActivation(fields) }, shared: {} };
  fields.require("hidden_act", "silu");
  return limitedSwiglu("swiglu_clamped", { routed: limit, shared: limitsShared ? limit : undefined });
}

/** A gated activation whose SiLU is limited in some layers: Step 3.5's and Ling 3's. Fields are lists by layer. */
export function limitedOutputs(fields: ConfigFields, layer: number, routed: string, shared: string): ExpertActivations {
  const limits = { routed: limitOfLayer(fields, routed, layer), shared: limitOfLayer(fields, shared, layer) };
  if (limits.routed === undefined && limits.shared === undefined) {
    return { experts: { activation: gatedActivation(fields) }, shared: {} };
  }
  fields.require("hidden_act", "silu");
  return limitedSwiglu("swiglu_clamped_after", limits);
}

/** A limit for all layers, or listed for each; null and 0 are none. */
function limitOfLayer(fields: ConfigFields, name: string, layer: number): number | undefined {
  const value = fields.value(name);
  const limit = (Array.isArray(value) ? value[layer] : value) ?? 0;
  if (typeof limit === "number" && limit >= 0) return limit === 0 ? undefined : limit;
  const place = Array.isArray(value) ? `${name}[${layer}]` : name;
  throw badCheckpoint(fields.path, `${place}: expected a limit > 0, or 0 for none, got ${describe(limit)}`);
}

/** Fields that limit the activations of experts, in config.json of any family. */
const limitFields = /^(\w+_)?swiglu_limits?(_\w+)?$/;

/**
 * Refuses a config.json that limits the activations of a layer by a field that its family did not read.
 * @param fields those that the family has read.
 */
export function refuseUnreadLimits(fields: ConfigFields, layer: number): void {
  for (const [name, value] of Object.entries(fields.all)) {
    if (!limitFields.test(name) || fields.wasRead(name)) continue;
    const limit = Array.isArray(value) ? value[layer] : value;
    if (!limit) continue;
    const problem = `expected no limit for layer ${layer}, as this family has none here`;
    throw badCheckpoint(fields.path, `${name}: ${problem}, got ${describe(limit)}`);
  }
}
