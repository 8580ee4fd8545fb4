import type { ConfigFields } from "../config_fields.js";
import { blockTensors, type Family, gatedActivation, layerCount, sharedExpert, sharedTensors } from "./family.js";

/** What a config.json means that does not say it; undefined for what it must say. */
interface Defaults {
  readonly layers?: number;
  readonly firstSparse: number;
  readonly hiddenSize?: number;
  readonly intermediateSize?: number;
  readonly numExperts?: number;
  readonly topK?: number;
  readonly normalize?: boolean;
  readonly scale?: number;
  readonly shared?: number;
  /** Whether experts are chosen with a bias. */
  readonly biased: boolean;
}

/**
 * openPangu: OpenPanguMoEGate of modeling_openpangu_moe.py, and OpenPanguMoE of vLLM and of openPangu's own plug-in for it. Sigmoid;
 * experts are chosen by score, in later models plus bias, and weighted by their scores, renormalised and scaled; shared experts.
 */
function panguFamily(modelType: string, defaults: Defaults, architecture?: string): Family {
  return {
    modelType,
    architecture,
    layerCount: layerCount(defaults.layers),
    hasExperts: (fields, layer) => {
      const limits = { minimum: 0, alias: "num_dense_layers" };
      return layer >= fields.integer("first_k_dense_replace", defaults.firstSparse, limits);
    },
    config: (fields) => {
      fields.require("n_group", 1);
      const intermediateSize = fields.integer("moe_intermediate_size", defaults.intermediateSize);
      return {
        hiddenSize: fields.integer("hidden_size", defaults.hiddenSize),
        intermediateSize,
        numExperts: fields.integer("n_routed_experts", defaults.numExperts, { alias: "num_routed_experts" }),
        topK: fields.integer("num_experts_per_tok", defaults.topK),
        scoring: "sigmoid",
        normalize: fields.boolean("norm_topk_prob", defaults.normalize),
        scale: fields.number("routed_scaling_factor", defaults.scale),
        activation: gatedActivation(fields),
        ...sharedExpert(sharedCount(fields, defaults), intermediateSize),
      };
    },
    tensors: (prefix, fields) => {
      const block = `${prefix}.mlp`;
      const shared = sharedTensors(block, sharedCount(fields, defaults));
      if (!fields.boolean("router_enable_expert_bias", defaults.biased)) return blockTensors(block, shared);
      return [`${block}.gate`, block].flatMap((owner) =>
        blockTensors(block, { selectionBias: { name: `${owner}.e_score_correction_bias` }, ...shared }),
      );
    },
  };
}

function sharedCount(fields: ConfigFields, { shared }: Defaults): number {
  const name = "n_shared_experts";
  return fields.isNull(name) ? 0 : fields.integer(name, shared, { minimum: 0, alias: "num_shared_experts" });
}

/** openPangu Ultra MoE: OpenPanguMoEConfig. */
export const panguUltraMoe = panguFamily("pangu_ultra_moe", {
  layers: 61,
  firstSparse: 3,
  hiddenSize: 7680,
  intermediateSize: 2048,
  numExperts: 256,
  topK: 8,
  normalize: true,
  scale: 2.5,
  shared: 1,
  biased: false,
});

/** openPangu 2.0: OpenPanguV2Config, which has no sizes. */
export const openPanguV2 = panguFamily("openpangu_v2", { firstSparse: 0, biased: false });

/** openPangu R 72B: PanguProMoESparseMoeBlock of modeling_pangu_moe.py, which has no sizes either. */
export const panguProMoeV2 = panguFamily(
  "pangu_pro_moe_v2",
  { firstSparse: 0, normalize: true, scale: 1, shared: 0, biased: false },
  "PanguProMoEV2ForCausalLM",
);
