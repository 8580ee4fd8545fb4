import type { ConfigFields } from "../config_fields.js";
import { bestGroups } from "./deepseek_v2.js";
import { blockTensors, type Family, layerCount, sharedExpert, sharedTensors } from "./family.js";
import { limitedOutputs } from "./limits.js";

const scoreFunctions = new Map([
  ["softmax", false],
  ["sigmoid", true],
]);

/**
 * Ling and Ring of inclusionAI: modeling_bailing_moe.py and modeling_bailing_moe_v2.py. Version 1 is a softmax over all
 * experts. Version 2, whose `score_function` is a sigmoid, is DeepSeek-V3's formula under other names: experts are chosen by
 * score plus bias from the groups whose two best have the largest sum, and weighted by their scores.
 */
function bailingFamily(
  modelType: string,
  scoreFunction: "softmax" | "sigmoid" | undefined,
  unsaid: Unsaid = ling,
  bias = "expert_bias",
): Family {
  const isSigmoid = (fields: ConfigFields) => fields.choice("score_function", scoreFunction, scoreFunctions);
  return {
    modelType,
    layerCount: layerCount(undefined),
    hasExperts: (fields, layer) => layer >= fields.integer("first_k_dense_replace", unsaid.first, { minimum: 0 }),
    config: (fields, layer) => {
      fields.require("use_bias", false);
      if (!isSigmoid(fields)) {
        fields.require("routed_scaling_factor", 1);
        fields.require("n_group", 1);
      }
      const limits = ["expert_swiglu_limit_list", "share_expert_swiglu_limit_list"] as const;
      const { experts, shared } = limitedOutputs(fields, layer, ...limits);
      return {
        hiddenSize: fields.integer("hidden_size", undefined),
        intermediateSize: fields.integer("moe_intermediate_size", undefined),
        numExperts: fields.integer("num_experts", undefined),
        topK: fields.integer("num_experts_per_tok", undefined),
        scoring: isSigmoid(fields) ? "sigmoid" : "softmax",
        ...bestGroups(fields, ...unsaid.groups),
        normalize: fields.boolean("norm_topk_prob", true),
        scale: fields.number("routed_scaling_factor", unsaid.scale),
        ...experts,
        ...sharedExpert(countedWidths(fields, unsaid), sharedWidth(fields), shared),
      };
    },
    tensors: (prefix, fields) => {
      const biased = isSigmoid(fields) && fields.boolean("moe_router_enable_expert_bias", true);
      const block = `${prefix}.mlp`;
      // The second name is MLX's.
      return [`${block}.gate`, `${block}.gate.gate_proj`].flatMap((router) =>
        blockTensors(block, {
          router: { name: `${router}.weight` },
          ...(biased && { selectionBias: { name: `${block}.gate.${bias}` } }),
          ...sharedTensors(block, sharedCount(fields, unsaid)),
        }),
      );
    },
  };
}

/** What a config.json means that does not say it. */
interface Unsaid {
  /** The first layer with experts. */
  readonly first: number;
  /** How many groups of experts there are, and from how many of them experts are chosen. */
  readonly groups: readonly [count: number, top: number];
  readonly scale: number;
  readonly shared: number;
  /** Whether `moe_shared_expert_intermediate_size` is the width of all shared experts together; default that of one. */
  readonly sharedTogether?: true;
}

const ling: Unsaid = { first: 0, groups: [1, 1], scale: 1, shared: 0 };

export const bailingMoe = bailingFamily("bailing_moe", "softmax");
export const bailingMoeV2 = bailingFamily("bailing_moe_v2", "sigmoid");

/** Ring-linear, and Ling and Ring 2.5 and Ling 3, whose attention differs. The last layers of Ling 3 limit SiLU. */
export const bailingMoeLinear = bailingFamily("bailing_moe_linear", undefined);
export const bailingHybrid = bailingFamily("bailing_hybrid", undefined);

/** LLaDA 2, a diffusion model with Ling 2.0's layers: modeling_llada2_moe.py. */
export const llada2Moe = bailingFamily("llada2_moe", undefined);

/** Sarvam 30B: SarvamMoEGate of modeling_sarvam_moe.py. And Sarvam 105B: SarvamMLAMoE, there and of vLLM. */
const sarvam: Unsaid = { first: 1, groups: [1, 1], scale: 2.5, shared: 1 };
export const sarvamMoe = bailingFamily("sarvam_moe", "sigmoid", sarvam);
export const sarvamMla = bailingFamily(
  "sarvam_mla",
  "sigmoid",
  { ...sarvam, groups: [16, 2] },
  "e_score_correction_bias",
);

/**
 * Param2 of BharatGen: Param2MoEGate of its own code, and Param2MoEMoEBlock of vLLM, which subtracts the mean from the bias; that
 * changes no choice.
 */
export const param2Moe = bailingFamily("param2moe", "sigmoid", {
  first: 1,
  groups: [8, 4],
  scale: 1,
  shared: 1,
  sharedTogether: true,
});

function sharedCount(fields: ConfigFields, { shared }: Unsaid): number {
  return fields.integer("num_shared_experts", shared, { minimum: 0 });
}

/** How often the shared experts together are as wide as {@link sharedWidth} says. */
function countedWidths(fields: ConfigFields, unsaid: Unsaid): number {
  const count = sharedCount(fields, unsaid);
  return unsaid.sharedTogether && fields.has(widthOfShared) ? Math.min(count, 1) : count;
}

function sharedWidth(fields: ConfigFields): number {
  return fields.integer(widthOfShared, fields.integer("moe_intermediate_size", undefined));
}

const widthOfShared = "moe_shared_expert_intermediate_size";
