import { groveConfig, groveMoe } from "../families/grove_moe.js";
import { inkling } from "../families/inkling.js";
import { type Architecture, checkFormula, checkGating, sizes, weightsScale } from "./architecture.js";

// Architectures whose files have the layer's experts in more than one set of tensors.

/** GroveMoE. Its adjugate experts have the tokens as inputs, as in its authors' code; in llama.cpp, the sum of the others. */
export const grove: Architecture = {
  read(fields, layer) {
    checkFormula(fields, "softmax", true);
    const known = sizes(fields, layer);
    const factor = fields.number("expert_group_scale");
    if (factor === undefined) throw fields.error("expert_group_scale", "a number", factor);
    const width = fields.optional("expert_chunk_feed_forward_length") ?? fields.integer("attention.key_length");
    const adjugate = { width, sharedBy: fields.integer("experts_per_group"), factor };
    return {
      family: { ...groveMoe, config: (fields) => groveConfig(fields, adjugate) },
      fields: { ...known, moe_intermediate_size: known.intermediate_size },
      adjugate,
    };
  },
};

/** Inkling. Files count the shared experts apart from the others. */
export const inklingMoe: Architecture = {
  read(fields, layer) {
    checkGating(fields, "sigmoid");
    const { intermediate_size: width, num_experts: count, ...known } = sizes(fields, layer);
    const shared = fields.integer("expert_shared_count");
    return {
      family: inkling,
      fields: {
        ...known,
        moe_intermediate_size: width,
        n_routed_experts: count,
        n_shared_experts: shared,
        route_scale: weightsScale(fields),
      },
      alwaysBiased: true,
      weighedShared: shared,
    };
  },
};
