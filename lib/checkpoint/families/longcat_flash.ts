import type { ConfigFields } from "../config_fields.js";
import { blockTensors, type Family, gatedActivation, layerCount } from "./family.js";

/**
 * LongcatFlashMoE of Transformers: softmax; experts are chosen by score plus bias, and the weights are the scores. Of the
 * experts the last `zero_expert_num` return their input. `router_bias` and `norm_topk_prob`, which Transformers does not
 * follow, are as in mlx-lm.
 */
function longcatFlashFamily(modelType: string, recognizes?: Family["recognizes"]): Family {
  return {
    modelType,
    ...(recognizes && { recognizes }),
    layerCount: layerCount(28, "num_layers"),
    config: (fields) => {
      const identityExperts = identityCount(fields);
      if (identityExperts > 0) fields.require("zero_expert_type", "identity");
      return {
        hiddenSize: fields.integer("hidden_size", 6144),
        intermediateSize: fields.integer("expert_ffn_hidden_size", 2048),
        numExperts: fields.integer("n_routed_experts", 512, { alias: "num_local_experts" }) + identityExperts,
        ...(identityExperts > 0 && { identityExperts }),
        topK: fields.integer("moe_topk", 12, { alias: "num_experts_per_tok" }),
        normalize: fields.boolean("norm_topk_prob", false),
        scale: fields.number("routed_scaling_factor", 6),
        activation: gatedActivation(fields),
      };
    },
    tensors: (prefix, fields) => {
      const router = `${prefix}.mlp.router`;
      return blockTensors(`${prefix}.mlp`, {
        router: { name: `${router}.classifier.weight` },
        ...(fields.boolean("router_bias", false) && { routerBias: { name: `${router}.classifier.bias` } }),
        selectionBias: { name: `${router}.e_score_correction_bias` },
      });
    },
  };
}

function identityCount(fields: ConfigFields): number {
  return fields.isNull("zero_expert_num") ? 0 : fields.integer("zero_expert_num", 256, { minimum: 0 });
}

/** LongCat-Flash, and later models whose configuration has no `model_type`: LongCat-2.0 and LongCat-Flash-Lite-Sparse. */
export const longcatFlash = longcatFlashFamily("longcat_flash", (fields) => fields.has("zero_expert_num"));

/** LongCat-Flash-Lite, whose embeddings differ. */
export const longcatFlashNgram = longcatFlashFamily("longcat_flash_ngram");

/** LongCat-Next. */
export const longcatNext = longcatFlashFamily("longcat_next");
