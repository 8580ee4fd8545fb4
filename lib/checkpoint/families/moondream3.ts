import { ConfigFields } from "../config_fields.js";
import { type Family, fusedExpert, layerCount } from "./family.js";

/**
 * Moondream 3: TextConfig, TextMoeConfig and moe_mlp of its own code, and Moondream3TextMoE of vLLM. Softmax over the chosen, with a
 * bias of the router; GeGLU, to whose linear half 1 is added, which is a bias here.
 */
export const moondream3: Family = {
  modelType: "moondream3",
  layerCount: (fields) => layerCount(24, "n_layers")(textFields(fields)),
  hasExperts: (fields, layer) => layer >= moeFields(fields).integer("start_layer", 4, { minimum: 0 }),
  config: (fields) => ({
    hiddenSize: textFields(fields).integer("dim", 2048),
    intermediateSize: moeFields(fields).integer("expert_inner_dim", 1024),
    numExperts: moeFields(fields).integer("num_experts", 64),
    topK: moeFields(fields).integer("experts_per_token", 8),
    scoring: "softmax_selected",
    activation: "geglu",
  }),
  prefix: (_fields, layer) => `model.text.blocks.${layer}`,
  tensors: (prefix) => {
    const block = `${prefix}.mlp`;
    const stack = (name: string) => ({ name: `${block}.${name}.weight`, stacked: "dim0" }) as const;
    return [
      {
        router: { name: `${block}.router.weight` },
        routerBias: { name: `${block}.router.bias` },
        experts: { ...fusedExpert(stack("fc1"), stack("fc2")), upBias: { name: `${block}.fc1.bias`, constant: 1 } },
      },
    ];
  },
};

/** Files may have only some of the fields, or none. */
function section(fields: ConfigFields, name: string): ConfigFields {
  return fields.section(name) ?? new ConfigFields(`${fields.path}: ${name}`, {});
}

function textFields(fields: ConfigFields): ConfigFields {
  return section(section(fields, "config"), "text");
}

function moeFields(fields: ConfigFields): ConfigFields {
  return section(textFields(fields), "moe");
}
