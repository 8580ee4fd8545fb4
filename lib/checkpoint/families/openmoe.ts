import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { ExpertWeights } from "../../layer/weights/expert_weights.js";
import { badCheckpoint } from "../bad_checkpoint.js";
import type { ConfigFields } from "../config_fields.js";
import type { NamedWeight } from "../locate/locate_layer.js";
import { type Family, layerCount } from "./family.js";

/** An expert's matrices: gate (second half of `wi_gate`), multiplier (first half) and up, or up alone. */
type Experts = Pick<MoeLayerConfig, "activation" | "multiplier">;
const gatedExperts: ReadonlyMap<string, Experts> = new Map<string, Experts>([
  ["swiglu", { activation: "swiglu", multiplier: true }],
  ["silu", { activation: "swiglu" }],
  ["gelu", { activation: "geglu" }],
]);
const plainExperts: ReadonlyMap<string, Experts> = new Map<string, Experts>([
  ["relu", { activation: "relu" }],
  ["gelu", { activation: "gelu" }],
  ["silu", { activation: "silu" }],
]);

/**
 * OpenMoE: openmoe's modeling_openmoe.py and the SparseMLP of ColossalAI, in evaluation. Softmax over all experts, top
 * 1 or 2 without renormalisation; the capacity from `router_capacity_factor_eval` is rounded down to an integer, then
 * up to an even number. The configuration class is Llama's, so `architectures` identifies the family. The layer is
 * SparseMLP without the `extra_mlp`.
 */
export const openMoe: Family = {
  modelType: "openmoe",
  architecture: "OpenMoeForCausalLM",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => (layer + 1) % fields.integer("moe_layer_interval", undefined) === 0,
  config: (fields) => {
    fields.require("router_drop_tks", true);
    const minimum = fields.integer("router_min_capacity", 4, { minimum: 0 });
    if (minimum % 2 !== 0) {
      throw badCheckpoint(fields.path, `router_min_capacity: expected an even number, got ${minimum}`);
    }
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize: fields.integer("intermediate_size", 11008),
      numExperts: fields.integer("num_experts", undefined),
      topK: fields.integer("router_topk", 2, { maximum: 2 }),
      capacity: { factor: fields.number("router_capacity_factor_eval", 2), round: "down", multipleOf: 2, minimum },
      ...readExperts(fields),
    };
  },
  tensors: (prefix, fields) => {
    const stacked = (name: string) =>
      ({ name: `${prefix}.mlp.experts.${name}`, stacked: "dim0", orient: "in_out" }) as const;
    const { multiplier } = readExperts(fields);
    const gated: ExpertWeights<NamedWeight, NamedWeight> = {
      gate: { ...stacked("wi_gate"), ...(multiplier && { part: "second_half" }) },
      ...(multiplier && { multiplier: { ...stacked("wi_gate"), part: "first_half" } }),
      up: stacked("wi_up"),
      down: stacked("wo"),
    };
    const experts = isGatedMlp(fields) ? gated : { up: stacked("wi"), down: stacked("wo") };
    return [{ router: { name: `${prefix}.mlp.gate_weight` }, experts }];
  },
};

function isGatedMlp(fields: ConfigFields): boolean {
  return fields.boolean("mlp_gated", true);
}

function readExperts(fields: ConfigFields): Experts {
  return fields.choice("hidden_act", "silu", isGatedMlp(fields) ? gatedExperts : plainExperts);
}
