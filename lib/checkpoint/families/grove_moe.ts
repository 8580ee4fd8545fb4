import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ConfigFields } from "../config_fields.js";
import type { LayerTensors, SharedMatrix } from "../locate/locate_layer.js";
import { type Family, gatedActivation, gatedExpert, layerCount } from "./family.js";
import { isSparseQwenLayer } from "./qwen2_moe.js";

/** What its code has in place of fields: the width of an adjugate expert, how many experts share it, and its factor. */
const adjugate: Adjugate = { width: 128, sharedBy: 2, factor: 0.05 };

/**
 * GroveMoE: GroveMoeSparseMoeBlock of inclusionAI's own code. Softmax, renormalised; neighbouring experts share an adjugate expert,
 * which adds a small share of its output to that of each, with the same weight. Here an expert and its
 * adjugate are one expert, as wide as both.
 */
export const groveMoe: Family = {
  modelType: "grove_moe",
  architecture: "GroveMoeForCausalLM",
  layerCount: layerCount(undefined),
  hasExperts: isSparseQwenLayer,
  config: (fields) => groveConfig(fields, adjugate),
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    const experts = gatedExpert(`${block}.experts.{e}`);
    return [
      {
        router: { name: `${block}.gate.weight` },
        experts: withAdjugates(experts, gatedExpert(`${block}.chunk_experts.{e}`), adjugate),
      },
    ];
  },
};

export function groveConfig(fields: ConfigFields, { width }: Adjugate): MoeLayerConfig {
  return {
    hiddenSize: fields.integer("hidden_size", undefined),
    intermediateSize: fields.integer("moe_intermediate_size", undefined) + width,
    numExperts: fields.integer("num_experts", undefined),
    topK: fields.integer("num_experts_per_tok", undefined),
    normalize: true,
    activation: gatedActivation(fields),
  };
}

/** Experts that others share. */
export interface Adjugate extends Pick<SharedMatrix, "width" | "sharedBy"> {
  /** Multiplies its output. */
  readonly factor: number;
}

/** Experts, each joined with the adjugate expert that it shares with others. */
export function withAdjugates(
  experts: LayerTensors["experts"],
  adjugates: LayerTensors["experts"],
  { width, sharedBy, factor }: Adjugate,
): LayerTensors["experts"] {
  const join = (role: "gate" | "up" | "down", more = {}) => ({
    ...(experts[role] as LayerTensors["router"]),
    joined: { weight: { ...(adjugates[role] as LayerTensors["router"]), ...more }, width, sharedBy },
  });
  return { gate: join("gate"), up: join("up"), down: join("down", { factor }) };
}
