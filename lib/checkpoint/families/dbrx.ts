import { ConfigFields } from "../config_fields.js";
import { type Family, gatedActivation, layerCount } from "./family.js";

/**
 * DBRX: DbrxConfig, DbrxRouter and DbrxExperts of Transformers. Softmax over all experts, divided by the L^p norm of
 * the chosen. The experts' matrices are row blocks of three tensors, each with H columns.
 */
export const dbrx: Family = {
  modelType: "dbrx",
  layerCount: layerCount(24, "n_layers"),
  config: (fields) => {
    const ffn = fields.section("ffn_config") ?? new ConfigFields(`${fields.path}: ffn_config`, {});
    const activation = ffn.section("ffn_act_fn") ?? new ConfigFields(`${ffn.path}: ffn_act_fn`, {});
    const power = ffn.isNull("moe_normalize_expert_weights")
      ? undefined
      : ffn.number("moe_normalize_expert_weights", 1);
    return {
      hiddenSize: fields.integer("d_model", 2048, { alias: "hidden_size" }),
      intermediateSize: ffn.integer("ffn_hidden_size", 3584),
      numExperts: ffn.integer("moe_num_experts", 4),
      topK: ffn.integer("moe_top_k", 1),
      normalize: power === undefined ? false : { by: "lp", power },
      activation: gatedActivation(activation, "name"),
    };
  },
  prefix: (_fields, layer) => `transformer.blocks.${layer}`,
  tensors: (prefix) => [
    {
      router: { name: `${prefix}.ffn.router.layer.weight` },
      experts: {
        gate: { name: `${prefix}.ffn.experts.mlp.w1`, stacked: "rows" },
        up: { name: `${prefix}.ffn.experts.mlp.v1`, stacked: "rows" },
        down: { name: `${prefix}.ffn.experts.mlp.w2`, stacked: "rows", orient: "in_out" },
      },
    },
  ],
};
