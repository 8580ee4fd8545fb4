import { blockTensors, type Family, gatedActivation, gatedExpert, isListedSparse, layerCount } from "./family.js";

const scorings = new Map([
  ["sigmoid", "sigmoid"],
  ["sqrtsoftplus", "sqrt_softplus"],
] as const);

/**
 * Laguna: LagunaConfig and LagunaSparseMoeBlock of Transformers. Sigmoid; experts are chosen by score plus bias, and
 * weighted by their scores, renormalised and scaled; a shared expert of a width of its own.
 */
export const laguna: Family = {
  modelType: "laguna",
  layerCount: layerCount(40),
  hasExperts: (fields, layer) =>
    isListedSparse(fields, layer) ?? !fields.integers("mlp_only_layers", [0]).includes(layer),
  config: (fields) => {
    fields.require("moe_router_use_sigmoid", true);
    fields.require("moe_router_logit_softcapping", 0);
    fields.require("moe_apply_router_weight_on_input", false);
    fields.require("norm_topk_prob", true);
    return {
      hiddenSize: fields.integer("hidden_size", 2048),
      intermediateSize: fields.integer("moe_intermediate_size", 512),
      numExperts: fields.integer("num_experts", 256, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", 8),
      scoring: fields.choice("moe_router_score_func", "sigmoid", scorings),
      normalize: true,
      scale: fields.number("moe_routed_scaling_factor", 1),
      activation: gatedActivation(fields),
      sharedExpert: { intermediateSize: fields.integer("shared_expert_intermediate_size", 512) },
    };
  },
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    const named = (bias: string, expert: string, router = "gate") =>
      blockTensors(block, {
        router: { name: `${block}.${router}.weight` },
        selectionBias: { name: `${block}.${bias}.e_score_correction_bias` },
        shared: gatedExpert(`${block}.${expert}`),
      });
    return [
      ...named("experts", "shared_expert"),
      ...named("gate", "shared_experts"),
      // As mlx-lm and mlx-vlm have them.
      ...named("gate", "shared_expert"),
      ...named("gate", "shared_expert", "gate.proj"),
    ];
  },
};
