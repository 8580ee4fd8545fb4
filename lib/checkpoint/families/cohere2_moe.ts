import type { Scoring } from "../../core/layer/routing_rule.js";
import type { MoeLayerConfig } from "../../layer/description/config.js";
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

const scorings: ReadonlyMap<string, Scoring> = new Map([
  ["softmax", "softmax_selected"],
  ["sigmoid", "sigmoid"],
]);

/**
 * Command A+: Cohere2MoeConfig and Cohere2MoeSparseMoeBlock of Transformers. Experts are chosen by logit, and weighted by a
 * softmax over the chosen, or by their sigmoids, renormalised; shared experts may be added, or averaged with the sum of the
 * others. An average halves the weights, and the last matrix of the shared experts, which is exact.
 */
export const cohere2Moe: Family = {
  modelType: "cohere2_moe",
  layerCount: layerCount(40),
  hasExperts: (fields, layer) =>
    isListedSparse(fields, layer) ?? layer >= fields.integer("first_k_dense_replace", 0, { minimum: 0 }),
  config: (fields) => {
    const intermediateSize = fields.integer("intermediate_size", 22528);
    return {
      hiddenSize: fields.integer("hidden_size", 8192),
      intermediateSize,
      numExperts: fields.integer("num_experts", 8, { alias: "num_local_experts" }),
      topK: fields.integer("num_experts_per_tok", 2),
      ...readScoring(fields),
      scale: shareOfSum(fields),
      activation: gatedActivation(fields),
      ...sharedExpert(sharedCount(fields), intermediateSize),
    };
  },
  tensors: (prefix, fields) => {
    const { shared } = sharedTensors(`${prefix}.mlp`, sharedCount(fields));
    const factor = shareOfSum(fields);
    const down = shared && { ...shared.down, ...(factor !== 1 && { factor }) };
    return blockTensors(`${prefix}.mlp`, shared && down ? { shared: { ...shared, down } } : {});
  },
};

const shares: ReadonlyMap<string, number> = new Map([
  ["average", 0.5],
  ["sum", 1],
]);

/** What multiplies the sum of routed and shared experts. */
function shareOfSum(fields: ConfigFields): number {
  if (sharedCount(fields) === 0) return 1;
  return fields.choice("shared_expert_combination_strategy", "average", shares);
}

function readScoring(fields: ConfigFields): Pick<MoeLayerConfig, "scoring" | "selectionKey" | "normalize"> {
  const scoring = fields.choice("expert_selection_fn", "softmax", scorings);
  if (scoring !== "sigmoid") return { scoring };
  return { scoring, selectionKey: "logit", normalize: fields.boolean("norm_topk_prob", true) };
}

function sharedCount(fields: ConfigFields): number {
  return fields.integer("num_shared_experts", 0, { minimum: 0 });
}
