import type { MoeLayerConfig } from "../../layer/description/config.js";
import type { Groups } from "../../operators/routing/gating_options.js";
import type { ConfigFields } from "../config_fields.js";
import {
  blockTensors,
  type Family,
  gatedActivation,
  isListedSparse,
  layerCount,
  sharedExpert,
  sharedTensors,
} from "./family.js";

/** Where a `topk_method` looks for a token's experts: among all of them, or in the best groups. */
const methods: ReadonlyMap<string, "all" | "groups"> = new Map([
  ["greedy", "all"],
  ["group_limited_greedy", "groups"],
]);

/**
 * DeepSeek-V2: DeepseekV2Config of Transformers, MoEGate and DeepseekV2MoE of DeepSeek's own modeling_deepseek.py.
 * Softmax over all experts; a group scores as its best expert. Weights are renormalised or scaled, never both.
 */
export const deepseekV2: Family = {
  modelType: "deepseek_v2",
  layerCount: layerCount(32),
  hasExperts: (fields, layer) => isSparseDeepseekLayer(fields, layer, 0),
  config: (fields) => {
    fields.require("scoring_func", "softmax");
    const topK = fields.integer("num_experts_per_tok", undefined);
    const normalize = fields.boolean("norm_topk_prob", false) && topK > 1;
    const intermediateSize = fields.integer("moe_intermediate_size", 1407);
    return {
      hiddenSize: fields.integer("hidden_size", 4096),
      intermediateSize,
      numExperts: fields.integer("n_routed_experts", 64, { alias: "num_experts" }),
      topK,
      ...(fields.choice("topk_method", "greedy", methods) === "groups" && { groups: readGroups(fields, "max") }),
      normalize,
      scale: normalize ? 1 : fields.number("routed_scaling_factor", 1),
      activation: gatedActivation(fields),
      ...sharedExpert(sharedCount(fields, 2), intermediateSize),
    };
  },
  tensors: (prefix, fields) => {
    const biases = fields.boolean("mlp_bias", false);
    const block = `${prefix}.mlp`;
    return blockTensors(block, sharedTensors(block, sharedCount(fields, 2), biases), biases);
  },
};

/** DeepSeekMoE, the first of the family: DeepseekConfig of its own code. */
export const deepseek: Family = { ...deepseekV2, modelType: "deepseek" };

/** The text model of DeepSeek-OCR-2: DeepseekOcr2TextConfig. */
export const deepseekOcr2: Family = { ...deepseekV2, modelType: "deepseek_ocr2_text" };

/**
 * The first layers are dense; after them, every `moe_layer_freq`-th layer has experts. A list in this field, or
 * `mlp_layer_types`, says it for each layer.
 */
export function isSparseDeepseekLayer(fields: ConfigFields, layer: number, firstSparse: number): boolean {
  const listed = isListedSparse(fields, layer);
  if (listed !== undefined) return listed;
  const frequency = fields.value("moe_layer_freq");
  if (Array.isArray(frequency)) return frequency[layer] === 1;
  const first = fields.integer("first_k_dense_replace", firstSparse, { minimum: 0 });
  return layer >= first && layer % fields.integer("moe_layer_freq", 1) === 0;
}

/**
 * The choice limited to the groups whose two best have the largest sum, as in DeepSeek-V3's formula; among all experts if these
 * are one group.
 */
export function bestGroups(fields: ConfigFields, count = 1, top = 1): Pick<MoeLayerConfig, "groups"> {
  const groups = readGroups(fields, "top2_sum", count, top);
  return groups.count > 1 ? { groups } : {};
}

function readGroups(fields: ConfigFields, score: "max" | "top2_sum", count?: number, top?: number): Groups {
  return { count: fields.integer("n_group", count), top: fields.integer("topk_group", top), score };
}

/** How many experts are shared. */
export function sharedCount(fields: ConfigFields, fallback: number): number {
  return fields.isNull("n_shared_experts") ? 0 : fields.integer("n_shared_experts", fallback, { minimum: 0 });
}
